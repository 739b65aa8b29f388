from toolwright_server.identity import Caller
from toolwright_server.records.audit.model import Entry, Kind
from toolwright_server.records.audit.refusals import RefusalOptions, Refusals

ANN = Caller("acme", "key-1", "ann")
EXECUTE = "toolwright.v1.ToolExecution/Execute"


class Desk:
    def __init__(self, **options: float) -> None:
        self.now = 1_000.0
        self.entries: list[Entry] = []
        self.refusals = Refusals(self.entries.append, RefusalOptions(**options), lambda: self.now)  # pyright: ignore[reportArgumentType]

    def refuse(self, count: int = 1, caller: Caller = ANN, reason: str = "FORBIDDEN") -> None:
        for _ in range(count):
            self.refusals.refused(caller, reason, EXECUTE, tool="crm.contact.get")

    @property
    def counts(self) -> list[object]:
        return [entry.facts["count"] for entry in self.entries if entry.kind == Kind.REFUSALS]


def test_a_refusal_is_an_entry() -> None:
    desk = Desk()
    desk.refusals.refused(ANN, "RESOURCE_NOT_FOUND", EXECUTE, execution_id="id-1")
    (entry,) = desk.entries
    assert (entry.kind, entry.tenant, entry.principal, entry.user) == (Kind.REFUSAL, "acme", "key-1", "ann")
    assert entry.execution_id == "id-1"
    assert entry.facts == {"reason": "RESOURCE_NOT_FOUND", "method": EXECUTE}


def test_a_flood_is_a_few_entries_and_a_count() -> None:
    desk = Desk(each=3, window_seconds=60.0)
    desk.refuse(1_000)
    assert len(desk.entries) == 3
    desk.now += 60.0
    desk.refusals.tick()
    desk.refusals.tick()
    assert len(desk.entries) == 4
    assert desk.counts == [997]


def test_few_refusals_need_no_count() -> None:
    desk = Desk(each=3)
    desk.refuse(3)
    desk.refusals.flush()
    assert len(desk.entries) == 3


def test_a_flood_that_goes_on_is_counted_window_by_window() -> None:
    desk = Desk(each=1, window_seconds=60.0)
    for _ in range(3):
        desk.refuse(10)
        desk.now += 60.0
    desk.refusals.tick()
    assert desk.counts == [9, 9, 9]


def test_principals_and_reasons_are_counted_apart() -> None:
    desk = Desk(each=1)
    desk.refuse(5)
    desk.refuse(4, reason="INVALID_ARGUMENTS")
    desk.refuse(3, caller=Caller("acme", "key-2", "bob"))
    desk.refusals.flush()
    assert sorted(map(str, desk.counts)) == ["2", "3", "4"]


def test_what_is_nobodys_refusal_is_no_entry() -> None:
    desk = Desk()
    for reason in (
        "UNAUTHENTICATED",
        "CANCELLED",
        "CLIENT_DEADLINE",
        "SERVER_DRAINING",
        "STORE_UNAVAILABLE",
        "INTERNAL",
    ):
        desk.refuse(reason=reason)
    assert desk.entries == []


def test_so_many_principals_that_they_cannot_be_told_apart_are_counted_together() -> None:
    desk = Desk(each=1, kinds=10)
    for number in range(1_000):
        desk.refuse(caller=Caller("acme", f"key-{number}", "ann"))
    desk.refusals.flush()
    assert len(desk.entries) == 12
    assert desk.counts == [989]


def test_a_client_cannot_fill_the_trail_with_text_of_its_own() -> None:
    desk = Desk()
    desk.refusals.refused(ANN, "TOOL_NOT_FOUND", EXECUTE, tool="x" * 1_000_000, execution_id="y" * 1_000_000)
    (entry,) = desk.entries
    assert len(str(entry)) < 1_000
