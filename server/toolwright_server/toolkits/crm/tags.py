"""crm.tag.add and crm.tag.remove, each other's undoing."""

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from toolwright_server import Effect, SyncToolContext
from toolwright_server.toolkits.crm.database import writing
from toolwright_server.toolkits.crm.failures import limit_reached
from toolwright_server.toolkits.crm.kit import ContactId, TagText, toolkit
from toolwright_server.toolkits.crm.results import Contact
from toolwright_server.toolkits.crm.rows import one_contact, require_contact
from toolwright_server.toolkits.crm.tables import TAGS_PER_CONTACT, contact_tags
from toolwright_server.toolkits.crm.text import tag_name


@toolkit.tool("tag.add", effect=Effect.IDEMPOTENT)
def add(context: SyncToolContext, contact_id: ContactId, tag: TagText) -> Contact:
    """Adds a tag to a contact, which then has it once, however often it is added."""
    tenant = context.caller.tenant
    with writing() as connection:
        require_contact(connection, tenant, contact_id)
        row = {"tenant": tenant, "contact_id": contact_id, "tag": tag_name(tag)}
        connection.execute(insert(contact_tags).values(row).on_conflict_do_nothing())
        contact = one_contact(connection, tenant, contact_id)
        if len(contact.tags) > TAGS_PER_CONTACT:
            raise limit_reached("tags", TAGS_PER_CONTACT)
        return contact


@toolkit.tool("tag.remove", effect=Effect.IDEMPOTENT)
def remove(context: SyncToolContext, contact_id: ContactId, tag: TagText) -> Contact:
    """Removes a tag from a contact; succeeds as well when the contact does not have it."""
    tenant = context.caller.tenant
    with writing() as connection:
        require_contact(connection, tenant, contact_id)
        connection.execute(
            sa.delete(contact_tags).where(
                contact_tags.c.tenant == tenant,
                contact_tags.c.contact_id == contact_id,
                contact_tags.c.tag == tag_name(tag),
            )
        )
        return one_contact(connection, tenant, contact_id)
