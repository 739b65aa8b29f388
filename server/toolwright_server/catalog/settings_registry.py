"""Shows and changes tool settings: who may, and whether they can be right. Knows neither gRPC nor where they lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from toolwright_server.catalog import settings_check
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.settings_model import FIELDS, ToolSettings
from toolwright_server.catalog.settings_store import ToolSettingsStore
from toolwright_server.errors import Reason, ToolwrightError, Violation, invalid
from toolwright_server.identity import Caller, Role
from toolwright_server.identity.names import NAME_LIMIT, is_name

ARGUMENTS_LIMIT: Final = 64 * 1024
"""Bytes of fixed and of default arguments, as JSON."""

# Without an etag a change is made to whatever is there, however often somebody else is quicker.
_TRIES: Final = 10

Parse = Callable[[str, int], tuple[dict[str, Any], bytes]]
"""Arguments and their canonical form, from JSON text of one object of so many bytes at most: canonical.parse."""

_ARGUMENTS: Final = {"fixed_arguments": "fixed_arguments_json", "default_arguments": "default_arguments_json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """What is asked for: `values` by names of settings_model.FIELDS, None clears; arguments as JSON text.

    Empty `tenant`: the caller's own. Empty `etag`: whatever is there.
    """

    tenant: str
    tool: str
    etag: str
    values: Mapping[str, Any]


class ToolSettingsRegistry:
    """See the module. A change holds on this server before `update` returns. `maximum_timeout` in seconds."""

    def __init__(self, catalog: Catalog, store: ToolSettingsStore, maximum_timeout: float, parse: Parse) -> None:
        self._catalog = catalog
        self._store = store
        self._maximum_timeout = maximum_timeout
        self._parse = parse

    async def get(self, tenant: str, tool: str, by: Caller) -> ToolSettings:
        """As they are in the database. Raises TOOL_NOT_FOUND, FORBIDDEN, INVALID_ARGUMENTS or STORE_UNAVAILABLE."""
        tenant = self._allowed(tenant, tool, "", by)
        return await self._kept(tenant, tool)

    async def update(self, change: SettingsChange, by: Caller) -> ToolSettings:
        """As they are afterwards. Raises ETAG_MISMATCH, and as `get`."""
        tenant = self._allowed(change.tenant, change.tool, "settings.", by)
        if not change.values:
            raise invalid("update_mask", "names nothing to change, and settings has nothing either")
        values = {name: self._read(name, value) for name, value in change.values.items()}
        for _ in range(_TRIES):
            before = await self._kept(tenant, change.tool)
            if change.etag and change.etag != before.etag:
                raise _mismatch(before)
            after = replace(before, **values)
            fields = [name for name in FIELDS if getattr(after, name) != getattr(before, name)]
            if not fields:
                return before
            self._check(after)
            kept = await self._store.put(after, fields, by)
            if kept is not None:
                self._catalog.tenants.adopt([kept])
                return kept
        raise _mismatch(await self._kept(tenant, change.tool))

    async def _kept(self, tenant: str, tool: str) -> ToolSettings:
        return await self._store.get(tenant, tool) or ToolSettings(tenant=tenant, tool=tool)

    def _allowed(self, tenant: str, tool: str, where: str, by: Caller) -> str:
        """The tenant that is meant, if the caller may ask about the tool there."""
        by.require(Role.OPERATOR)
        if tenant and not is_name(tenant):
            raise invalid(f"{where}tenant_id", f"must be printable text of 1 to {NAME_LIMIT} characters, and not *")
        if by.role is not Role.ADMIN and tenant not in {"", by.tenant}:
            raise ToolwrightError(
                Reason.FORBIDDEN, f"the credential reaches settings of tenant {by.tenant!r} only",
                metadata={"outcome": "not_started"},
            )  # fmt: skip
        if not tool:
            raise invalid(f"{where}tool", "is required")
        # As declared: who may set a tool sees it also when it is hidden.
        self._catalog.resolve(tool, "", by.may_call)
        return tenant or by.tenant

    def _read(self, name: str, value: Any) -> Any:
        if name in _ARGUMENTS:
            return self._arguments(_ARGUMENTS[name], value) if value else b""
        return {} if name == "limits" and value is None else value

    def _arguments(self, field: str, text: str) -> bytes:
        try:
            given, canonical = self._parse(text, ARGUMENTS_LIMIT)
        except ToolwrightError as error:
            if error.failure.reason is Reason.PAYLOAD_TOO_LARGE:
                raise invalid(f"settings.{field}", f"has more than {ARGUMENTS_LIMIT} bytes") from None
            what = error.failure.violations[0].description if error.failure.violations else error.failure.message
            raise invalid(f"settings.{field}", what) from None
        # An object without members fixes nothing: as if there were none.
        return canonical if given else b""

    def _check(self, settings: ToolSettings) -> None:
        found = settings_check.violations(settings, self._catalog.versions(settings.tool), self._maximum_timeout)
        if found:
            named = [Violation(f"settings.{each.field}", each.description) for each in found]
            raise ToolwrightError(
                Reason.INVALID_ARGUMENTS,
                f"{named[0].field}: {named[0].description}",
                metadata={"outcome": "not_started"},
                violations=named,
            )


def _mismatch(current: ToolSettings) -> ToolwrightError:
    return ToolwrightError(
        Reason.ETAG_MISMATCH,
        f"the settings of {current.tool} in tenant {current.tenant!r} have the etag {current.etag!r} now",
        metadata={"etag": current.etag, "outcome": "not_started"},
    )
