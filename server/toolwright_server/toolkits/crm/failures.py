"""The domain's failures, as callers see them: reason, message, words for the user, what to do next."""

from toolwright_server import ToolError


def contact_not_found(contact_id: str) -> ToolError:
    """No such contact in the caller's tenant."""
    return ToolError(
        f"there is no contact {contact_id!r}",
        reason="CONTACT_NOT_FOUND",
        user_message="This contact does not exist.",
        suggested_action="Find the contact with crm.contact.search and use the id that it gives.",
        metadata={"contact_id": contact_id},
    )


def deal_not_found(deal_id: str) -> ToolError:
    """No such deal in the caller's tenant."""
    return ToolError(
        f"there is no deal {deal_id!r}",
        reason="DEAL_NOT_FOUND",
        user_message="This deal does not exist.",
        suggested_action="Read the contact with crm.contact.get, which lists the ids of its deals.",
        metadata={"deal_id": deal_id},
    )


def email_taken(email: str, contact_id: str) -> ToolError:
    """Another contact of the tenant has the address."""
    return ToolError(
        f"contact {contact_id} already has the email address {email}",
        reason="EMAIL_TAKEN",
        user_message="There is already a contact with this email address.",
        suggested_action="Update that contact with crm.contact.update, or give another address.",
        metadata={"contact_id": contact_id, "email": email},
    )


def has_deals(contact_id: str, deals: int) -> ToolError:
    """The contact would take its deals along."""
    return ToolError(
        f"contact {contact_id} has {deals} deals",
        reason="CONTACT_HAS_DEALS",
        user_message="This contact still has deals.",
        suggested_action="Ask whether the deals may go too; if so, delete again with delete_deals set to true.",
        metadata={"contact_id": contact_id, "deals": str(deals)},
    )


def limit_reached(what: str, limit: int) -> ToolError:
    """A contact holds only so many."""
    return ToolError(
        f"a contact has at most {limit} {what}",
        reason=f"{what.upper()}_LIMIT",
        user_message=f"This contact cannot have more {what}.",
        suggested_action=f"Remove some of its {what} first.",
        metadata={"limit": str(limit)},
    )


def stage_not_allowed(deal_id: str, stage: str, asked: str, allowed: list[str]) -> ToolError:
    """The deal cannot go from its stage to the one asked for."""
    next_stages = ", ".join(allowed) or "none"
    return ToolError(
        f"deal {deal_id} is in stage {stage} and cannot go to {asked}; from there it can go to: {next_stages}",
        reason="STAGE_NOT_ALLOWED",
        user_message=f"This deal cannot go from {stage} to {asked}.",
        suggested_action=f"Choose one of the stages it can go to: {next_stages}.",
        metadata={"deal_id": deal_id, "stage": stage, "asked": asked, "allowed": ",".join(allowed)},
    )


def invalid(field: str, why: str, suggestion: str) -> ToolError:
    """A value that is well-formed JSON and still no name, address, number, tag or attribute."""
    return ToolError(
        f"{field}: {why}",
        reason=f"{field.upper()}_INVALID",
        user_message=f"This {field.replace('_', ' ')} cannot be right.",
        suggested_action=suggestion,
        metadata={"field": field},
    )


def store_busy(waited_seconds: float) -> ToolError:
    """Another call was writing all the while; nothing has happened."""
    return ToolError(
        f"the contacts were being written to for {waited_seconds:g} s",
        reason="STORE_BUSY",
        user_message="The contacts are busy at the moment.",
        suggested_action="Call again after the retry delay; nothing was changed.",
        retryable=True,
        retry_delay=0.5,
    )
