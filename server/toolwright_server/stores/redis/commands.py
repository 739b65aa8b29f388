"""What calls with the same checks have in common, written once: their commands but for the token, how to read answers.

Knows neither connections nor time.
"""

from collections.abc import Sequence
from typing import Any, Final, overload

from toolwright_server.limits.model import Check, Kind, Reading, Taking
from toolwright_server.stores.redis.scripts import COUNTERS, bulk, evaluated

PREFIX: Final = b"tw:"
REFUSED, TAKEN, HELD, READ = range(4)
_KINDS: Final = {Kind.WINDOW: b"W", Kind.DAY: b"D", Kind.MONTH: b"M", Kind.RUNNING: b"R"}
_MICROSECONDS: Final = 1_000_000
# Plans that are kept; then all are written anew. One for each set of rules that holds for somebody.
_PLANS: Final = 4096
# Tokens in one command.
_TOKENS: Final = 256


class Plan:
    """The commands for one set of checks. `lease_seconds`: how long a place is held without being renewed."""

    __slots__ = ("_arguments", "_keys", "_mark", "_take", "checks", "lasts_seconds", "slot_key")

    def __init__(self, checks: Sequence[Check], lease_seconds: float) -> None:
        self.checks = checks
        self._keys = [PREFIX + check.key.encode() for check in checks]
        self.slot_key = self._keys[0] if self._keys else b""
        self._mark = _mark(checks)
        self._arguments = _arguments(checks, lease_seconds)
        # After so long a taking that nobody gave back has run out by itself, but for days and months.
        self.lasts_seconds = max([lease_seconds, *(check.window_seconds for check in checks)])
        self._take = self._split(b"take")

    def take(self, token: bytes) -> bytes:
        """The command of one taking."""
        head, middle = self._take
        written = bulk(token)
        if self._mark is None:
            return b"%b%b" % (head, written)
        return b"%b%b%b%b" % (head, bulk(self._mark + token), middle, written)

    def read(self) -> bytes:
        """The command that asks for the counters."""
        return evaluated(COUNTERS, self._keys, (b"read", *self._arguments))

    def about(self, verb: bytes, tokens: Sequence[bytes]) -> list[bytes]:
        """The commands `give_back`, `release`, `renew` or `restore` for tokens."""
        commands: list[bytes] = []
        for start in range(0, len(tokens), _TOKENS):
            some = tokens[start : start + _TOKENS]
            marks = [self._mark + token for token in some] if self._mark is not None else []
            commands.append(evaluated(COUNTERS, [*self._keys, *marks], (verb, *self._arguments, *some)))
        return commands

    def readings(self, answer: Sequence[Any]) -> Sequence[Reading]:
        """The readings in an answer to `take` or `read`."""
        return Readings(self.checks, answer)

    def taking(self, answer: Sequence[Any]) -> Taking:
        """What an answer to `take` says."""
        readings = Readings(self.checks, answer)
        # The numbers of the check that refuses, or of those that are over in shadow; mostly none.
        named = str(answer[1], "ascii").split() if answer[1] else []
        if answer[0] == REFUSED:
            return Taking(readings, readings[int(named[0]) - 1])
        over = [readings[int(number) - 1] for number in named]
        return Taking(readings, None, over, answer[2::2])

    def _split(self, verb: bytes) -> tuple[bytes, bytes]:
        """A command for one token, before and after the mark; the token itself comes last."""
        mark = b"\x00mark" if self._mark is not None else None
        keys = [*self._keys, mark] if mark is not None else self._keys
        whole = evaluated(COUNTERS, keys, (verb, *self._arguments, b""))
        whole = whole.removesuffix(bulk(b""))
        if mark is None:
            return whole, b""
        head, _, middle = whole.partition(bulk(mark))
        return head, middle


def _arguments(checks: Sequence[Check], lease_seconds: float) -> list[bytes]:
    written = [b"%d" % round(lease_seconds * _MICROSECONDS), b"%d" % len(checks)]
    for check in checks:
        window = round(check.window_seconds * _MICROSECONDS)
        written += (_KINDS[check.kind], b"%d" % check.limit, b"%d" % window, b"1" if check.shadow else b"0")
    return written


def _mark(checks: Sequence[Check]) -> bytes | None:
    """What the key of a token's mark begins with, in the slot of the checks; None where a place says as much."""
    has_place = any(check.kind is Kind.RUNNING and not check.shadow for check in checks)
    if not checks or (has_place and not any(check.kind in (Kind.DAY, Kind.MONTH) for check in checks)):
        return None
    key = checks[0].key.encode()
    begin = key.find(b"{")
    end = key.find(b"}", begin)
    tag = key[begin : end + 1] if -1 < begin < end - 1 else b""
    return PREFIX + tag + b":call:"


class Readings(Sequence[Reading]):
    """Readings in an answer, made when somebody looks: mostly nobody does."""

    __slots__ = ("_answer", "_checks", "_made")

    def __init__(self, checks: Sequence[Check], answer: Sequence[Any]) -> None:
        self._checks = checks
        self._answer = answer
        self._made: Sequence[Reading] | None = None

    @overload
    def __getitem__(self, index: int) -> Reading: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reading]: ...
    def __getitem__(self, index: int | slice) -> Reading | Sequence[Reading]:
        if self._made is None:
            answer = self._answer
            self._made = [
                Reading(check, answer[place], answer[place + 1] / _MICROSECONDS)
                for check, place in zip(self._checks, range(2, len(answer), 2), strict=True)
            ]
        return self._made[index]

    def __len__(self) -> int:
        return len(self._checks)


class Plans:
    """The plans of the checks that come again and again, bounded."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._plans: dict[int, Plan] = {}

    def of(self, checks: Sequence[Check]) -> Plan:
        """The plan for these checks. Of a tuple it is kept as long as there is room; a list may change."""
        found = self._plans.get(id(checks))
        # The plan keeps its checks alive: nothing else has their identity meanwhile.
        if found is not None and found.checks is checks:
            return found
        plan = Plan(checks, self._lease_seconds)
        if isinstance(checks, tuple):
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[id(checks)] = plan
        else:
            plan.checks = tuple(checks)
        return plan
