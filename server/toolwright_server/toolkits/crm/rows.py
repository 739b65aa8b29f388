"""Reads contacts and deals out of the tables. Every statement names the tenant."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from toolwright_server.toolkits.crm.failures import contact_not_found
from toolwright_server.toolkits.crm.results import Contact, Deal
from toolwright_server.toolkits.crm.tables import DEALS_PER_CONTACT, contact_tags, contacts, deals

type_of_row = sa.Row[Any]


def now() -> str:
    """The time as it is kept: RFC 3339, UTC, microseconds, so that text sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def one_contact(connection: sa.Connection, tenant: str, contact_id: str) -> Contact:
    """Raises CONTACT_NOT_FOUND."""
    mine = contacts.c.tenant == tenant, contacts.c.contact_id == contact_id
    row = connection.execute(sa.select(contacts).where(*mine)).one_or_none()
    if row is None:
        raise contact_not_found(contact_id)
    return with_tags(connection, tenant, [row])[0]


def require_contact(connection: sa.Connection, tenant: str, contact_id: str) -> None:
    """Raises CONTACT_NOT_FOUND."""
    mine = contacts.c.tenant == tenant, contacts.c.contact_id == contact_id
    if connection.execute(sa.select(contacts.c.contact_id).where(*mine)).one_or_none() is None:
        raise contact_not_found(contact_id)


def with_tags(connection: sa.Connection, tenant: str, rows: Sequence[type_of_row]) -> list[Contact]:
    """The contacts of these rows, in their order, with two statements however many they are."""
    ids = [row.contact_id for row in rows]
    found = connection.execute(
        sa.select(contact_tags.c.contact_id, contact_tags.c.tag)
        .where(contact_tags.c.tenant == tenant, contact_tags.c.contact_id.in_(ids))
        .order_by(contact_tags.c.tag)
    )
    tags: dict[str, list[str]] = {contact_id: [] for contact_id in ids}
    for contact_id, tag in found:
        tags[contact_id].append(tag)
    return [_contact(row, tags[row.contact_id]) for row in rows]


def deals_of(connection: sa.Connection, tenant: str, contact_id: str) -> list[Deal]:
    """Newest first."""
    rows = connection.execute(
        sa.select(deals)
        .where(deals.c.tenant == tenant, deals.c.contact_id == contact_id)
        .order_by(deals.c.create_time.desc(), deals.c.deal_id)
        .limit(DEALS_PER_CONTACT)
    )
    return [deal(row) for row in rows]


def deal(row: type_of_row) -> Deal:
    """One row as a deal."""
    return Deal(
        deal_id=row.deal_id,
        contact_id=row.contact_id,
        title=row.title,
        stage=row.stage,
        previous_stage=row.previous_stage,
        amount=row.amount,
        currency=row.currency,
        create_time=row.create_time,
        update_time=row.update_time,
    )


def _contact(row: type_of_row, tags: Iterable[str]) -> Contact:
    return Contact(
        contact_id=row.contact_id,
        name=row.name,
        email=row.email,
        phone=row.phone,
        attributes=row.attributes,
        tags=list(tags),
        create_time=row.create_time,
        update_time=row.update_time,
    )
