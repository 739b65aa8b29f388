"""crm.contact.create, get, update and delete."""

import uuid
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from toolwright_server import Effect, SyncToolContext
from toolwright_server.toolkits.crm import failures, text
from toolwright_server.toolkits.crm.database import reading, writing
from toolwright_server.toolkits.crm.kit import Attributes, ContactId, Email, Name, Phone, toolkit
from toolwright_server.toolkits.crm.results import Contact, ContactWithDeals, Deletion
from toolwright_server.toolkits.crm.rows import deals_of, now, one_contact
from toolwright_server.toolkits.crm.tables import NAME_LIMIT, contacts, deals


@toolkit.tool("contact.create", effect=Effect.SIDE_EFFECT)
def create(
    context: SyncToolContext,
    name: Name,
    email: Email,
    phone: Phone | None = None,
    attributes: Attributes | None = None,
) -> Contact:
    """Creates a contact. Fails with EMAIL_TAKEN, naming the contact, when the address is in use.

    Undone by crm.contact.delete.
    """
    tenant = context.caller.tenant
    values = _values(name, email, phone, text.checked_attributes(attributes or {}))
    time = now()
    contact_id = str(uuid.uuid4())
    with writing() as connection:
        _require_free(connection, tenant, values, contact_id)
        row = {"tenant": tenant, "contact_id": contact_id, "create_time": time, "update_time": time, **values}
        connection.execute(sa.insert(contacts).values(row))
        return one_contact(connection, tenant, contact_id)


@toolkit.tool("contact.get", effect=Effect.READ_ONLY)
def get(context: SyncToolContext, contact_id: ContactId) -> ContactWithDeals:
    """Returns one contact with its tags and its deals."""
    tenant = context.caller.tenant
    with reading() as connection:
        contact = one_contact(connection, tenant, contact_id)
        return ContactWithDeals(
            contact.contact_id,
            contact.name,
            contact.email,
            contact.phone,
            contact.attributes,
            contact.tags,
            contact.create_time,
            contact.update_time,
            deals_of(connection, tenant, contact_id),
        )


@toolkit.tool("contact.update", effect=Effect.IDEMPOTENT)
def update(
    context: SyncToolContext,
    contact_id: ContactId,
    *,
    name: Name | None = None,
    email: Email | None = None,
    phone: Annotated[
        Phone | None, Field(description="New phone number, as in creation; an empty text removes it.")
    ] = None,
    attributes: Annotated[
        Attributes | None,
        Field(description="Merged into the present ones: null removes a key, objects are merged (RFC 7386)."),
    ] = None,
) -> Contact:
    """Changes what is given of a contact; what is left out or null stays as it is."""
    tenant = context.caller.tenant
    with writing() as connection:
        old = one_contact(connection, tenant, contact_id)
        patch = text.checked_attributes(attributes or {})
        new = _values(
            old.name if name is None else name,
            old.email if email is None else email,
            old.phone if phone is None else phone,
            text.checked_attributes(text.merged(old.attributes, patch)),
        )
        if all(getattr(old, field) == new[field] for field in ("name", "email", "phone", "attributes")):
            # Done before, perhaps by this very call: the time of the change stays true.
            return old
        _require_free(connection, tenant, new, contact_id)
        mine = contacts.c.tenant == tenant, contacts.c.contact_id == contact_id
        connection.execute(sa.update(contacts).where(*mine).values({"update_time": now(), **new}))
        return one_contact(connection, tenant, contact_id)


@toolkit.tool("contact.delete", effect=Effect.IDEMPOTENT)
def delete(
    context: SyncToolContext,
    contact_id: ContactId,
    delete_deals: Annotated[bool, Field(description="Delete the contact's deals too.")] = False,
) -> Deletion:
    """Deletes a contact and its tags, for good. Fails with CONTACT_HAS_DEALS while it has deals, unless they go too.

    Deleting what is not there succeeds with `deleted` false.
    """
    tenant = context.caller.tenant
    with writing() as connection:
        its_deals = deals.c.tenant == tenant, deals.c.contact_id == contact_id
        count = connection.execute(sa.select(sa.func.count()).select_from(deals).where(*its_deals)).scalar_one()
        if count and not delete_deals:
            raise failures.has_deals(contact_id, count)
        connection.execute(sa.delete(deals).where(*its_deals))
        mine = contacts.c.tenant == tenant, contacts.c.contact_id == contact_id
        # Its tags go by the foreign key's ON DELETE CASCADE.
        deleted = connection.execute(sa.delete(contacts).where(*mine)).rowcount
        return Deletion(deleted=deleted == 1, deals_deleted=count)


def _values(name: str, email: str, phone: str | None, attributes: dict[str, Any]) -> dict[str, Any]:
    """The columns that follow from what a caller writes."""
    name = text.one_line("name", name, NAME_LIMIT)
    email = text.email_address(email)
    phone = text.phone_number(phone or "")
    return {
        "name": name,
        "email": email,
        "email_key": text.folded(email),
        "phone": phone,
        "attributes": attributes,
        "name_key": text.folded(name),
        "search_text": text.search_text(name, email, phone, attributes),
    }


def _require_free(connection: sa.Connection, tenant: str, values: dict[str, Any], contact_id: str) -> None:
    # Inside BEGIN IMMEDIATE nobody can take the address between this look and the write; the UNIQUE constraint
    # stands behind it all the same.
    other = (
        sa.select(contacts.c.contact_id)
        .where(contacts.c.tenant == tenant, contacts.c.email_key == values["email_key"])
        .where(contacts.c.contact_id != contact_id)
    )
    taken = connection.execute(other).scalar_one_or_none()
    if taken is not None:
        raise failures.email_taken(values["email"], taken)
