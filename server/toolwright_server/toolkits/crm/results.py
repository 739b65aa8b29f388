"""What the tools answer. Ids are text, times RFC 3339 in UTC, amounts whole numbers of the currency's smallest unit."""

from dataclasses import dataclass
from typing import Any

from toolwright_server.toolkits.crm.kit import Stage


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact. `phone` is null when none is known; `tags` are sorted."""

    contact_id: str
    name: str
    email: str
    phone: str | None
    attributes: dict[str, Any]
    tags: list[str]
    create_time: str
    update_time: str


@dataclass(frozen=True, slots=True)
class Deal:
    """One deal. `previous_stage` is null until the stage was first changed."""

    deal_id: str
    contact_id: str
    title: str
    stage: Stage
    previous_stage: Stage | None
    amount: int | None
    currency: str | None
    create_time: str
    update_time: str


@dataclass(frozen=True, slots=True)
class ContactWithDeals(Contact):
    """One contact and its deals, newest first."""

    deals: list[Deal]


@dataclass(frozen=True, slots=True)
class ContactPage:
    """Some of the contacts that were looked for. `next_page_token` is empty on the last page."""

    contacts: list[Contact]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """`deleted` is false when the contact was not there."""

    deleted: bool
    deals_deleted: int
