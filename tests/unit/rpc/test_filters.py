"""What a filter means, and that whatever cannot be read is refused with the place."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.conditions import ALWAYS, All, Comparison, Condition, Either, Not, Relation, matches
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc import filters

FIELDS = {
    "state": filters.choice(("RUNNING", "FAILED"), "STATE_"),
    "tool": filters.TEXT,
    "user_id": filters.TEXT,
    "create_time": filters.TIME,
}


def parsed(text: str) -> Condition:
    return filters.parse(text, FIELDS)


def refused(text: str) -> str:
    with pytest.raises(ToolwrightError) as caught:
        parsed(text)
    assert caught.value.failure.reason is Reason.INVALID_ARGUMENTS
    assert caught.value.failure.violations[0].field == "filter"
    return str(caught.value)


def quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\*])', r"\\\1", value) + '"'


def is_(field: str, value: str | float) -> Comparison:
    return Comparison(field, Relation.EQUAL, value)


A, B, C, D = (is_("tool", name) for name in "abcd")


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_filter_has_no_conditions(text: str) -> None:
    assert parsed(text) is ALWAYS


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tool = a", A),
        ("tool=a", A),
        ('tool = "a"', A),
        ("(tool = a)", A),
        ("tool = a AND tool = b AND tool = c", All((A, B, C))),
        ("tool = a OR tool = b OR tool = c", Either((A, B, C))),
        # AIP-160: OR binds tighter than AND.
        ("tool = a AND tool = b OR tool = c", All((A, Either((B, C))))),
        ("tool = a OR tool = b AND tool = c", All((Either((A, B)), C))),
        ("(tool = a AND tool = b) OR tool = c", Either((All((A, B)), C))),
        ("NOT tool = a AND tool = b", All((Not(A), B))),
        ("NOT (tool = a AND tool = b)", Not(All((A, B)))),
        ("NOT NOT tool = a", Not(Not(A))),
        ("NOT(tool=a)OR(tool=b)", Either((Not(A), B))),
        ("tool != a", Not(A)),
        ("tool = b\nAND\ttool=c", All((B, C))),
        ("tool = OR AND tool = NOT", All((is_("tool", "OR"), is_("tool", "NOT")))),
        ("tool = ANDROID", is_("tool", "ANDROID")),
        ('tool = ""', is_("tool", "")),
        ("tool:a", A),
        ("tool = crm.*", Comparison("tool", Relation.PREFIX, "crm.")),
        ('tool = "crm.*"', Comparison("tool", Relation.PREFIX, "crm.")),
        ('tool != "crm.*"', Not(Comparison("tool", Relation.PREFIX, "crm."))),
        (r'tool = "crm.\*"', is_("tool", "crm.*")),
        (r'tool = "crm\\*"', Comparison("tool", Relation.PREFIX, "crm\\")),
        (r'tool = "crm\\\*"', is_("tool", "crm\\*")),
        ('tool = "*x"', is_("tool", "*x")),
        ("tool = *", Comparison("tool", Relation.PREFIX, "")),
        ("tool:*", Not(is_("tool", ""))),
        ("state = RUNNING", is_("state", "RUNNING")),
        ("state = STATE_RUNNING", is_("state", "RUNNING")),
        ("create_time:*", Comparison("create_time", Relation.EXISTS)),
        ("labels.team = x", is_("labels.team", "x")),
        ("labels.x.y-z/1=v", is_("labels.x.y-z/1", "v")),
        (r'labels."a \"b\" c" = x', is_('labels.a "b" c', "x")),
        ('labels.team = ""', is_("labels.team", "")),
        ("labels:team", Comparison("labels.team", Relation.EXISTS)),
        ('labels:"my team*"', Comparison("labels.my team*", Relation.EXISTS)),
        ("labels.team:*", Comparison("labels.team", Relation.EXISTS)),
        ("labels.team = x*", Comparison("labels.team", Relation.PREFIX, "x")),
    ],
)
def test_a_filter_means(text: str, meant: Condition) -> None:
    assert parsed(text) == meant


@pytest.mark.parametrize(
    ("text", "relation", "seconds"),
    [
        ("create_time < 1970-01-01T00:00:10Z", Relation.BEFORE, 10.0),
        ('create_time <= "1970-01-01T00:00:10Z"', Relation.NOT_AFTER, 10.0),
        ("create_time>1970-01-01T01:00:10.5+01:00", Relation.AFTER, 10.5),
        ("create_time>=2026-11-21T11:30:00.000001Z", Relation.NOT_BEFORE, 1795260600.000001),
        ("create_time = 1969-12-31T23:59:59Z", Relation.EQUAL, -1.0),
    ],
)
def test_times_are_read_as_in_rfc_3339(text: str, relation: Relation, seconds: float) -> None:
    assert parsed(text) == Comparison("create_time", relation, seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('colour = "red"', "colour cannot be filtered by; use state, tool, user_id, create_time or labels.KEY"),
        ('state = FAILED tool = "b"', "expected AND or OR at character 15"),
        ('tool = "A" AND', "expected field"),
        ('tool = "a" ANDtool = "b"', "expected AND or OR"),
        ("tool = a and tool = b", "expected AND or OR"),
        ('tool = "a" OR OR tool = "b"', "expected field"),
        ("NOT", "expected field"),
        ("(tool = a", "expected AND, OR or ) at character 9"),
        ("tool = a)", "expected AND or OR at character 8"),
        ("()", "expected field"),
        ('tool = "a', "expected a value behind tool ="),
        ("tool =", "expected a value behind tool ="),
        ("tool == a", "expected a value behind tool ="),
        ("tool", "expected field"),
        ('= "A"', "expected field"),
        ('"tool" = a', "expected field"),
        ('labels. = "A"', "expected field"),
        ("labels = x", "labels are asked for as labels:KEY"),
        ('tool.x = "A"', "tool.x cannot be filtered by"),
        ("tool < b", "tool has no order; compare it with =, != or :"),
        ("labels.team > b", "labels.team has no order"),
        ("state > RUNNING", "state has no order"),
        ("state = DONE", "state: 'DONE' is not one of RUNNING, FAILED"),
        ("state = RUN*", "'RUN*' is not one of"),
        ("create_time < yesterday", "create_time: 'yesterday' is no time as in RFC 3339"),
        ("create_time < 2026-01-01T00:00:00", "has no time zone"),
        ("create_time < 2026-01-01*", "is no time"),
        ('tool = "a\0"', "has a NUL character at character 9"),
        ("x" * 4_097, "has 4097 characters; at most 4096 are accepted"),
        ("(" * 17 + "tool = a" + ")" * 17, "is nested deeper than 16 levels"),
        ("NOT " * 17 + "tool = a", "is nested deeper than 16 levels"),
        (" AND ".join(["tool=a"] * 65), "has more than 64 conditions"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_the_place(text: str, said: str) -> None:
    assert said in refused(text)


def test_labels_are_refused_where_there_are_none() -> None:
    for text in ("labels.team = x", "labels:team"):
        with pytest.raises(ToolwrightError, match=r"cannot be filtered by; use tool$"):
            filters.parse(text, {"tool": filters.TEXT}, labels=False)


# PostgreSQL's texts hold no NUL, and so no entry does.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


def label(key: str, value: str) -> Comparison:
    return is_(f"labels.{key}", value)


def beginning(value: str) -> Comparison:
    return Comparison("tool", Relation.PREFIX, value)


LEAVES = st.one_of(
    st.builds(is_, st.sampled_from(["tool", "user_id"]), TEXTS),
    st.builds(label, TEXTS.filter(bool), TEXTS),
    st.builds(beginning, TEXTS),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Either(tuple(parts))),
    ),
    max_leaves=6,
)


def written(condition: Condition) -> str:
    match condition:
        case Comparison(field, relation, value):
            name = f"labels.{quoted(field.removeprefix('labels.'))}" if field.startswith("labels.") else field
            assert isinstance(value, str)
            return f"{name} = " + (quoted(value)[:-1] + '*"' if relation is Relation.PREFIX else quoted(value))
        case Not(part):
            return f"NOT ({written(part)})"
        case All(parts):
            return "(" + " AND ".join(f"({written(part)})" for part in parts) + ")"
        case Either(parts):
            return "(" + " OR ".join(f"({written(part)})" for part in parts) + ")"


@given(CONDITIONS)
def test_what_is_written_as_a_filter_is_read_as_the_same_condition(condition: Condition) -> None:
    assert parsed(written(condition)) == condition


@given(st.text() | st.text(alphabet='satelbox.="\\ ANDORT()*:<>!labels._', max_size=40))
def test_any_text_gives_a_condition_or_a_refusal(text: str) -> None:
    with contextlib.suppress(ToolwrightError):
        parsed(text)


ENTRY = {"tool": "crm.get", "user_id": "", "create_time": 10.0, "labels.team": "x", "labels.empty": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("tool = crm.get", True),
        ("tool = crm.ge", False),
        ("tool = crm.*", True),
        ("tool = CRM.*", False),
        ("tool:*", True),
        ("user_id:*", False),
        ('user_id = ""', True),
        ("create_time < 1970-01-01T00:00:10Z", False),
        ("create_time <= 1970-01-01T00:00:10Z", True),
        ("create_time > 1970-01-01T00:00:10Z", False),
        ("create_time >= 1970-01-01T00:00:10Z", True),
        ("labels:team", True),
        ("labels:empty", True),
        ("labels.empty = *", True),
        ("labels:none", False),
        ("labels.none = *", False),
        ("labels.none != x", True),
        ("NOT labels.none = x", True),
        ("NOT (tool = crm.get OR labels:none)", False),
    ],
)
def test_a_condition_holds_of_an_entry_or_it_does_not(text: str, holds: bool) -> None:
    assert matches(parsed(text), ENTRY.get) is holds


def test_comparing_what_is_absent_is_false_and_its_opposite_true() -> None:
    for relation in Relation:
        asked = Comparison("end_time", relation, 1.0)
        assert not matches(asked, ENTRY.get)
        assert matches(Not(asked), ENTRY.get)
