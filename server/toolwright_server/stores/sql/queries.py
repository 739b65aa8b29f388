"""Lists of executions as SQL, for SQLite and PostgreSQL: what is asked for, what the caller may see, which index helps.

A page costs the same wherever it begins: it starts at an id (UUIDv7, so by time) and goes down an index. The indexes
are named in tables.py. A condition that no index serves is asked of each row that the caller may see, newest first.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from toolwright_server.conditions import LABELS, All, Comparison, Condition, Either, Not, Relation, demanded
from toolwright_server.execution.model import TERMINAL, State
from toolwright_server.execution.query import TIMES, ExecutionQuery
from toolwright_server.identity import ANY_USER, Caller, Role
from toolwright_server.stores.sql.tables import A_STEP, FAILED, IN_A_SESSION, UNFINISHED, executions

_Where = sa.ColumnElement[bool]
_Rows = sa.Select[Any]

# Ids are made before the times of their rows are read: so far apart they may be, in seconds.
_SLACK: Final = 60.0
# For so many users a page is gathered from one index scan each; for more, from the tenant's.
_USERS_LIMIT: Final = 16

_C = executions.c
_ORDERS: Final = {
    Relation.BEFORE: "<",
    Relation.NOT_AFTER: "<=",
    Relation.AFTER: ">",
    Relation.NOT_BEFORE: ">=",
}


def page(columns: Sequence[sa.Column[Any]], caller: Caller, query: ExecutionQuery, *, sqlite: bool) -> _Rows:
    """The columns of one page, newest first. `sqlite`: compile labels for SQLite and not for PostgreSQL."""
    asked = [where(query.condition, sqlite=sqlite), *_bounds(query.condition), *_hints(query.condition)]
    if query.before:
        asked.append(_C.execution_id < query.before)
    selective = any(map(_is_selective, demanded(query.condition)))
    users = _users(caller)
    if selective or users is None or len(users) > _USERS_LIMIT:
        return _sorted(sa.select(*columns).where(*_visible(caller, users, indexed=not selective), *asked), query.limit)
    if len(users) == 1:
        return _sorted(sa.select(*columns).where(*_visible(caller, users, indexed=True), *asked), query.limit)
    parts = [
        _sorted(sa.select(*columns).where(*_visible(caller, (user,), indexed=True), *asked), query.limit).subquery()
        for user in users
    ]
    whole = sa.union_all(*(sa.select(part) for part in parts)).subquery()
    return sa.select(whole).order_by(whole.c.execution_id.desc()).limit(query.limit)


def where(condition: Condition, *, sqlite: bool) -> _Where:
    """The condition as SQL; always true or false, never null, as it is in memory."""
    match condition:
        case Comparison():
            return _label(condition, sqlite=sqlite) if condition.field.startswith(LABELS) else _compared(condition)
        case Not(part):
            return sa.not_(where(part, sqlite=sqlite))
        case All(parts):
            return sa.and_(sa.true(), *(where(part, sqlite=sqlite) for part in parts))
        case Either(parts):
            return sa.or_(sa.false(), *(where(part, sqlite=sqlite) for part in parts))


def id_at(seconds: float) -> str:
    """The smallest id that could have been made at this time (seconds since the epoch): a bound for comparisons."""
    milliseconds = min(max(0, int(seconds * 1000)), 2**48 - 1)
    text = f"{milliseconds:012x}"
    return f"{text[:8]}-{text[8:]}"


def _sorted(rows: _Rows, limit: int) -> _Rows:
    return rows.order_by(_C.execution_id.desc()).limit(limit)


def _users(caller: Caller) -> tuple[str, ...] | None:
    """The users whose executions the caller sees; None: all of them."""
    if caller.role.includes(Role.OPERATOR) or ANY_USER in caller.acts_for:
        return None
    return tuple(sorted({caller.user, *caller.acts_for}))


def _visible(caller: Caller, users: Sequence[str] | None, *, indexed: bool) -> list[_Where]:
    """Whose executions. Not `indexed`: as expressions that no index has, so that the planner takes a better one."""
    if caller.role is Role.ADMIN:
        return []
    tenant, user = (_C.tenant, _C.user_id) if indexed else (_C.tenant.concat(""), _C.user_id.concat(""))
    if users is None:
        return [tenant == caller.tenant]
    if len(users) == 1:
        return [tenant == caller.tenant, user == users[0]]
    return [tenant == caller.tenant, _C.user_id.concat("").in_(users)]


def _compared(asked: Comparison) -> _Where:
    column: sa.ColumnElement[Any] = _C[asked.field]
    if asked.relation is Relation.EXISTS:
        return column.is_not(None)
    if asked.field == "state":
        return column == State[str(asked.value)].value
    if asked.field in TIMES:
        return sa.and_(column.is_not(None), _in_order(column, asked))
    return _begins(column, str(asked.value)) if asked.relation is Relation.PREFIX else column == asked.value


def _begins(text: sa.ColumnElement[Any], start: str) -> _Where:
    # Not LIKE: SQLite's takes capital letters for small ones.
    return sa.func.substr(text, 1, len(start)) == start


def _in_order(column: sa.ColumnElement[Any], asked: Comparison) -> _Where:
    if asked.relation is Relation.EQUAL:
        return column == asked.value
    found: _Where = column.op(_ORDERS[asked.relation], is_comparison=True)(asked.value)
    return found


def _label(asked: Comparison, *, sqlite: bool) -> _Where:
    key = asked.field.removeprefix(LABELS)
    if sqlite:
        entries = sa.func.json_each(_C.labels).table_valued("key", "value")
        held = _label_value(entries.c.value, asked)
        return sa.exists(sa.select(1).select_from(entries).where(entries.c.key == key, *held))
    value = _C.labels.op("->>", return_type=sa.Text())(sa.literal(key, sa.Text()))
    return sa.and_(value.is_not(None), *_label_value(value, asked))


def _label_value(value: sa.ColumnElement[Any], asked: Comparison) -> list[_Where]:
    if asked.relation is Relation.EXISTS:
        return []
    return [_begins(value, str(asked.value)) if asked.relation is Relation.PREFIX else value == asked.value]


def _names_one(asked: Comparison) -> bool:
    return asked.relation is Relation.EQUAL and asked.value != ""


def _is_selective(asked: Comparison) -> bool:
    """Whether it leads to few rows, whatever the tenant, by an index of its own."""
    if asked.field == "state":
        return _names_one(asked) and State[str(asked.value)] not in TERMINAL
    return asked.field in {"task_id", "session_id"} and _names_one(asked)


def _bounds(condition: Condition) -> list[_Where]:
    """Times as bounds of the id, in whose order rows are read."""
    found: list[_Where] = []
    for asked in demanded(condition):
        if asked.field not in TIMES or isinstance(asked.value, str):
            continue
        if asked.relation in (Relation.BEFORE, Relation.NOT_AFTER, Relation.EQUAL):
            # What ended by then was created by then.
            found.append(_C.execution_id < id_at(asked.value + _SLACK))
        if asked.field == "create_time" and asked.relation not in (Relation.BEFORE, Relation.NOT_AFTER):
            found.append(_C.execution_id >= id_at(asked.value - _SLACK))
    return found


def _hints(condition: Condition) -> list[_Where]:
    """What the condition implies, in the words of the partial indexes."""
    found: list[_Where] = []
    for asked in demanded(condition):
        if not _names_one(asked):
            continue
        if asked.field == "task_id":
            found.append(_in_task(str(asked.value)))
        elif asked.field == "session_id":
            found.append(_literally(IN_A_SESSION))
        elif asked.field == "state":
            state = State[str(asked.value)]
            found += [_unfinished()] if state not in TERMINAL else []
            found += [_literally(FAILED)] if state > State.SUCCEEDED else []
    return found


def _in_task(task_id: str) -> _Where:
    """The steps by their index, and the root by its id."""
    steps = executions.alias("steps")
    found = sa.select(steps.c.execution_id).where(steps.c.task_id == task_id, _literally(A_STEP))
    return _C.execution_id.in_(sa.union_all(found, sa.select(sa.literal(task_id, sa.Text()))))


def _unfinished() -> _Where:
    """What runs now, by the index that holds nothing else: seldom more than a few."""
    running = executions.alias("running")
    return _C.execution_id.in_(sa.select(running.c.execution_id).where(_literally(UNFINISHED)))


def _literally(text: str) -> _Where:
    # Untyped: of a boolean SQLAlchemy would make `text = 1`, which is not what the index says.
    return sa.literal_column(f"({text})")
