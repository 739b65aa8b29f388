"""crm.deal.create and crm.deal.update_stage, and which stage may follow which."""

import uuid
from collections.abc import Mapping
from typing import Annotated

import sqlalchemy as sa
from pydantic import Field

from toolwright_server import Effect, SyncToolContext
from toolwright_server.toolkits.crm import failures
from toolwright_server.toolkits.crm.database import writing
from toolwright_server.toolkits.crm.kit import ContactId, DealId, Stage, toolkit
from toolwright_server.toolkits.crm.results import Deal
from toolwright_server.toolkits.crm.rows import deal, now, require_contact
from toolwright_server.toolkits.crm.tables import DEALS_PER_CONTACT, TITLE_LIMIT, deals
from toolwright_server.toolkits.crm.text import one_line

_LARGEST_AMOUNT = 2**53 - 1

# Forward one by one or to an end; one step back while it is being talked about; what was lost can begin again.
NEXT_STAGES: Mapping[Stage, frozenset[Stage]] = {
    "lead": frozenset({"qualified", "lost"}),
    "qualified": frozenset({"lead", "proposal", "lost"}),
    "proposal": frozenset({"qualified", "negotiation", "won", "lost"}),
    "negotiation": frozenset({"proposal", "won", "lost"}),
    "won": frozenset(),
    "lost": frozenset({"lead"}),
}


@toolkit.tool("deal.create", effect=Effect.SIDE_EFFECT)
def create(
    context: SyncToolContext,
    contact_id: ContactId,
    title: Annotated[str, Field(min_length=1, max_length=TITLE_LIMIT, description="What the deal is about.")],
    amount: Annotated[
        int | None,
        Field(ge=0, le=_LARGEST_AMOUNT, description="Value in the currency's smallest unit (cents). Needs currency."),
    ] = None,
    currency: Annotated[str | None, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code, such as EUR.")] = None,
) -> Deal:
    """Creates a deal with a contact, in stage `lead`."""
    tenant = context.caller.tenant
    if (amount is None) != (currency is None):
        missing = "amount" if amount is None else "currency"
        raise failures.invalid(missing, "amount and currency go together", f"Give {missing} too, or neither of both.")
    time = now()
    row = {
        "tenant": tenant,
        "deal_id": str(uuid.uuid4()),
        "contact_id": contact_id,
        "title": one_line("title", title, TITLE_LIMIT),
        "stage": "lead",
        "amount": amount,
        "currency": currency,
        "create_time": time,
        "update_time": time,
    }
    with writing() as connection:
        require_contact(connection, tenant, contact_id)
        its_deals = deals.c.tenant == tenant, deals.c.contact_id == contact_id
        if connection.execute(sa.select(sa.func.count()).where(*its_deals)).scalar_one() >= DEALS_PER_CONTACT:
            raise failures.limit_reached("deals", DEALS_PER_CONTACT)
        return deal(connection.execute(sa.insert(deals).values(row).returning(deals)).one())


@toolkit.tool("deal.update_stage", effect=Effect.IDEMPOTENT)
def update_stage(context: SyncToolContext, deal_id: DealId, stage: Stage) -> Deal:
    """Moves a deal to another stage; succeeds as well when it is there already.

    From lead to qualified, lost; from qualified to lead, proposal, lost; from proposal to qualified, negotiation, won,
    lost; from negotiation to proposal, won, lost; from lost to lead; from won nowhere.
    """
    mine = deals.c.tenant == context.caller.tenant, deals.c.deal_id == deal_id
    with writing() as connection:
        row = connection.execute(sa.select(deals).where(*mine)).one_or_none()
        if row is None:
            raise failures.deal_not_found(deal_id)
        old = deal(row)
        if old.stage == stage:
            return old
        if stage not in NEXT_STAGES[old.stage]:
            raise failures.stage_not_allowed(deal_id, old.stage, stage, sorted(NEXT_STAGES[old.stage]))
        values = {"stage": stage, "previous_stage": old.stage, "update_time": now()}
        return deal(connection.execute(sa.update(deals).where(*mine).values(values).returning(deals)).one())
