"""Two tenants on one server, a quiet one and a noisy one: what the quiet one notices. Judges nothing."""

import asyncio
import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import grpc
import psutil

from tests.live import LiveServer, live_server
from toolwright.v1 import keys_pb2, keys_pb2_grpc

from .deadlines import percentile
from .open_loop import Plan, Seen, sending

SECONDS = 30.0
QUIET, NOISY = "quiet", "noisy"
# How long the noisy one is there before and after the quiet one, together.
LEAD = 3.0
# A machine has some processor to spare where the server waits for it at most this part of the time that it runs; and
# how often a round is made for that.
WAITED, TRIES = 0.25, 2
# Callers that get no processor send what is due in heaps: the server refuses each heap as fast as it can, and whoever
# comes behind one waits for that.
LATE_MILLISECONDS = 5.0


@dataclass(frozen=True)
class House:
    """A server, and a key for each tenant."""

    server: LiveServer
    secrets: Mapping[str, str]

    def plan(self, tenant: str, rate: float, seconds: float, **fields: Any) -> Plan:
        """Calls of a tenant."""
        return Plan(self.server.address, self.secrets[tenant], rate, seconds, **fields)


@contextlib.contextmanager
def house(folder: Path, rules: str, **settings: str) -> Generator[House]:
    """A server whose limits are `rules` alone (TOML)."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = folder / "limits.toml"
    limits.write_text(f"ready_made = false\n{rules}", encoding="utf-8")
    env = {
        "TOOLWRIGHT_AUTH": "api-key",
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_LIMITS_FILE": str(limits),
        **settings,
    }
    with live_server(folder, env=env) as server:
        admin = (server.data_dir / "admin.key").read_text(encoding="ascii").strip()
        with grpc.insecure_channel(server.address) as channel:
            keys: Any = keys_pb2_grpc.KeyServiceStub(channel)
            made = {tenant: _key(keys, tenant, admin) for tenant in (QUIET, NOISY)}
        yield House(server, made)


def _key(stub: Any, tenant: str, admin: str) -> str:
    request = keys_pb2.CreateApiKeyRequest(tenant_id=tenant, user_id=f"of-{tenant}", role=keys_pb2.ROLE_AGENT)
    return stub.CreateApiKey(request, timeout=SECONDS, metadata=(("authorization", f"Bearer {admin}"),)).secret


@dataclass
class Processor:
    """What the machine's processors did meanwhile, in seconds of all of them together.

    `server` is what the server took, `waited` how long its threads could have run and got none, `others` what neither
    it nor the tenants took.
    """

    whole: float = 0.0
    idle: float = 0.0
    server: float = 0.0
    waited: float = 0.0
    others: float = 0.0

    @property
    def is_spare(self) -> bool:
        """Whether the server got a processor nearly whenever it needed one."""
        return self.waited <= WAITED * self.server

    def add(self, other: "Processor") -> None:
        """The same, and later."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def shares(self) -> dict[str, float]:
        """Of all the processors' time, from 0 to 1."""
        return {name: round(value / self.whole, 2) for name, value in asdict(self).items() if name != "whole"}


@dataclass
class Watched:
    """The quiet tenant's calls, alone or not, and what else happened meanwhile."""

    quiet: Seen = field(default_factory=Seen)
    noisy: Seen = field(default_factory=Seen)
    processor: Processor = field(default_factory=Processor)

    def add(self, other: "Watched") -> None:
        """The same, and later."""
        self.quiet.add(other.quiet)
        self.noisy.add(other.noisy)
        self.processor.add(other.processor)


async def watched(house: House, quiet: Plan, noisy: Plan | None = None) -> Watched:
    """Let the quiet tenant call, with the noisy one there from before its first call until after its last one."""
    seen = Watched()
    async with contextlib.AsyncExitStack() as stack:
        before, noise = _used(house), None
        if noisy is not None:
            noise = await stack.enter_async_context(sending(noisy))
            await asyncio.sleep((noisy.seconds - quiet.seconds) / 2)
        calls = await stack.enter_async_context(sending(quiet))
        seen.quiet = await calls.seen(quiet.seconds + 2 * quiet.deadline_seconds)
        if noise is not None and noisy is not None:
            seen.noisy = await noise.seen(noisy.seconds + 2 * noisy.deadline_seconds)
        after = _used(house)
    whole, idle, server, waited = (later - sooner for sooner, later in zip(before, after, strict=True))
    tenants = seen.quiet.process_seconds + seen.noisy.process_seconds
    seen.processor = Processor(whole, idle, server, waited, whole - idle - server - tenants)
    return seen


def _used(house: House) -> tuple[float, float, float, float]:
    """Seconds of all processors: in all, idle; that the server's threads ran, and that they waited to run."""
    machine = psutil.cpu_times()
    threads = [file.read_text().split() for file in Path(f"/proc/{house.server.pid}/task").glob("*/schedstat")]
    ran, waited = (sum(int(thread[place]) for thread in threads) / 1e9 for place in (0, 1))
    return sum(machine[:8]), machine.idle, ran, waited


async def compared(house: House, quiet: Plan, noisy: Plan, rounds: int) -> tuple[Watched, Watched]:
    """Alone and beside the noisy one in turns, so that what else the machine does falls on both.

    A round in which the server had to wait for a processor is made again, a bounded number of times.
    """
    alone, beside, kept = Watched(), Watched(), 0
    for number in range(TRIES * rounds):
        plan = replace(quiet, seed=number)
        pair = await watched(house, plan), await watched(house, plan, replace(noisy, seconds=quiet.seconds + LEAD))
        lost = any(set(each.quiet.answers) != {"OK"} for each in pair)
        # What was lost is lost, also on a busy machine.
        if lost or spare(*pair) or TRIES * rounds - number <= rounds - kept:
            alone.add(pair[0])
            beside.add(pair[1])
            kept += 1
        if kept == rounds:
            break
    return alone, beside


def spare(*seen: Watched) -> bool:
    """Whether the machine had some processor to spare."""
    late = [_at(each.noisy.late, 0.99) for each in seen]
    return all(each.processor.is_spare for each in seen) and max(late) <= LATE_MILLISECONDS


def report(title: str, alone: Watched, beside: Watched) -> dict[str, Any]:
    """The figures, printed and returned. Rates in calls a second, times in milliseconds."""
    figures: dict[str, Any] = {
        "series": title,
        "quiet_rate": round(beside.quiet.rate, 1),
        "noisy_rate": round(beside.noisy.rate, 1),
        "quiet_calls": [alone.quiet.calls, beside.quiet.calls],
        "quiet_answers": [alone.quiet.answers, beside.quiet.answers],
        "noisy_answers": beside.noisy.answers,
        "load_average": [round(each, 1) for each in psutil.getloadavg()],
    }
    for part in (0.5, 0.9, 0.99, 1.0):
        figures[f"quiet_p{part * 100:g}_ms"] = [_at(each.quiet.took, part) for each in (alone, beside)]
    figures["quiet_late_p99_ms"] = [_at(each.quiet.late, 0.99) for each in (alone, beside)]
    figures["noisy_late_p99_ms"] = _at(beside.noisy.late, 0.99)
    figures["refusal_p50_ms"] = _at(beside.noisy.refused, 0.5)
    figures["processors"] = [each.processor.shares() for each in (alone, beside)]
    p99 = figures["quiet_p99_ms"]
    figures["p99_ratio"] = round(p99[1] / p99[0], 2)
    print(json.dumps(figures), flush=True)  # noqa: T201 (the long run's product is its figures)
    return figures


def _at(values: list[float], part: float) -> float:
    return round(percentile(values, part), 2) if values else 0.0
