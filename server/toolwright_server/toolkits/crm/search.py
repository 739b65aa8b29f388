"""crm.contact.search: words anywhere in a contact, by pages that stay right while contacts come and go."""

import base64
import binascii
import json
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from toolwright_server import Effect, SyncToolContext, ToolError
from toolwright_server.toolkits.crm.database import reading
from toolwright_server.toolkits.crm.kit import TagText, toolkit
from toolwright_server.toolkits.crm.results import ContactPage
from toolwright_server.toolkits.crm.rows import with_tags
from toolwright_server.toolkits.crm.tables import contact_tags, contacts
from toolwright_server.toolkits.crm.text import folded, tag_name

_WORDS_LIMIT = 16


@toolkit.tool("contact.search", effect=Effect.READ_ONLY)
def search(
    context: SyncToolContext,
    query: Annotated[
        str,
        Field(
            max_length=200,
            description="Words that a contact must all have, in part and in any case, in its name, email address, phone"
            " number or attributes. Empty: every contact.",
        ),
    ] = "",
    tag: Annotated[TagText | None, Field(description="Only contacts with this tag.")] = None,
    page_size: Annotated[int, Field(ge=1, le=100, description="Most contacts of one page.")] = 20,
    page_token: Annotated[
        str, Field(max_length=2000, description="`next_page_token` of the page before, asked with the same query.")
    ] = "",
) -> ContactPage:
    """Finds contacts, sorted by name."""
    tenant = context.caller.tenant
    chosen = sa.select(contacts).where(contacts.c.tenant == tenant)
    for word in folded(query).split()[:_WORDS_LIMIT]:
        chosen = chosen.where(contacts.c.search_text.contains(word, autoescape=True))
    if tag is not None:
        tagged = sa.select(contact_tags.c.contact_id).where(
            contact_tags.c.tenant == tenant, contact_tags.c.tag == tag_name(tag)
        )
        chosen = chosen.where(contacts.c.contact_id.in_(tagged))
    if page_token:
        chosen = chosen.where(sa.tuple_(contacts.c.name_key, contacts.c.contact_id) > sa.tuple_(*_read(page_token)))
    chosen = chosen.order_by(contacts.c.name_key, contacts.c.contact_id).limit(page_size + 1)
    with reading() as connection:
        rows = connection.execute(chosen).all()
        page = rows[:page_size]
        return ContactPage(with_tags(connection, tenant, page), _token(page[-1]) if len(rows) > page_size else "")


def _token(last: sa.Row[Any]) -> str:
    """Where the next page begins: after this contact."""
    return base64.urlsafe_b64encode(json.dumps([last.name_key, last.contact_id]).encode()).decode()


def _read(token: str) -> tuple[str, str]:
    try:
        match json.loads(base64.b64decode(token, altchars=b"-_", validate=True)):
            case [str(name), str(contact_id)]:
                return name, contact_id
            case _:
                pass
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise ToolError(
        "page_token is not one that a search returned",
        reason="PAGE_TOKEN_INVALID",
        user_message="This page cannot be found.",
        suggested_action="Pass next_page_token unchanged, or leave it out to begin with the first page.",
    )
