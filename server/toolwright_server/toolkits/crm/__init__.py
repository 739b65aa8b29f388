"""Contacts, their tags and their deals, in SQLite, each tenant's apart.

Domain failures are ToolErrors with a reason, words for the user and what to do next; nothing here knows who runs it.
"""

from toolwright_server.toolkits.crm import contacts, deals, search, tags
from toolwright_server.toolkits.crm.kit import toolkit

__all__ = ["contacts", "deals", "search", "tags", "toolkit"]
