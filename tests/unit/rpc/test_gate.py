"""The server's own door, without gRPC."""

import asyncio

import pytest

from toolwright_server.errors import Failure, Reason
from toolwright_server.identity import ANONYMOUS
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.gate import DRAINING, Gate
from toolwright_server.rpc.observe import Unobserved


def _call() -> RpcCall:
    return RpcCall("s/M", ANONYMOUS, Unobserved().begin("s/M", ()), received=0.0)


def test_as_many_are_let_in_as_the_limit_says_and_one_more_for_each_that_leaves() -> None:
    gate = Gate(2, 9)
    assert (gate.refusal(), gate.refusal()) == (None, None)
    refusal = gate.refusal()
    assert refusal is not None
    assert refusal.reason is Reason.CONCURRENCY_LIMITED
    assert refusal.metadata == {"limit": "2", "outcome": "not_started"}
    gate.leave()
    assert gate.refusal() is None
    assert gate.active == 2


def test_refused_callers_are_not_sent_back_all_at_once() -> None:
    gate = Gate(0, 9)
    refusals = [refusal for _ in range(50) if isinstance(refusal := gate.refusal(), Failure)]
    delays = {refusal.retry_delay for refusal in refusals}
    assert len(refusals) == 50
    assert len(delays) > 40
    assert all(delay is not None and 0.2 <= delay <= 0.6 for delay in delays)


def test_nobody_is_let_in_once_it_is_closed() -> None:
    gate = Gate(2, 9)
    gate.close()
    assert gate.refusal() is DRAINING
    assert gate.active == 0


@pytest.mark.asyncio
async def test_quiet_waits_for_calls_that_work_and_not_for_those_that_watch() -> None:
    gate = Gate(9, 9)
    watching = asyncio.Event()

    async def watch(call: RpcCall) -> None:
        assert gate.refusal_to_watch(call) is None
        watching.set()
        try:
            await asyncio.Event().wait()
        finally:
            gate.leave_watching()

    call = _call()
    watcher = asyncio.create_task(watch(call))
    await watching.wait()
    await gate.quiet()
    gate.refusal()
    quiet = asyncio.create_task(gate.quiet())
    await asyncio.sleep(0)
    assert not quiet.done()
    gate.leave()
    await quiet
    assert (gate.active, gate.working) == (1, 0)
    assert gate.end_watching() == 1
    assert call.told_to_end
    await asyncio.wait({watcher})
    assert watcher.cancelled()
    assert gate.active == 0


@pytest.mark.asyncio
async def test_who_watches_takes_no_place_from_who_works_nor_the_other_way_round() -> None:
    gate = Gate(1, 1)
    assert gate.refusal_to_watch(_call()) is None
    assert gate.refusal() is None
    for refusal in (gate.refusal_to_watch(_call()), gate.refusal()):
        assert refusal is not None
        assert refusal.reason is Reason.CONCURRENCY_LIMITED
        assert refusal.metadata == {"limit": "1", "outcome": "not_started"}
        assert refusal.retry_delay is not None
    gate.leave_watching()
    assert gate.refusal() is not None
    assert gate.refusal_to_watch(_call()) is None
    gate.close()
    assert gate.refusal_to_watch(_call()) is DRAINING
