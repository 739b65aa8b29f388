"""The knobs: one frozen model, each with its unit in the name, its default and one line of what it is for.

Checks what it is given and never reads the outside: `sources.load_settings` does.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from toolwright_server.settings.address import Address
from toolwright_server.settings.kinds import (
    Algorithms,
    Bytes,
    Count,
    CountOrNone,
    Days,
    File,
    Folder,
    HttpListen,
    Listen,
    ListenOrNone,
    LogLevel,
    Names,
    Pause,
    Seconds,
    Variables,
)
from toolwright_server.settings.sharing import shareable
from toolwright_server.settings.trust import trusted

PREFIX = "TOOLWRIGHT_"
_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3

CATEGORY_TIMEOUTS_SECONDS: Mapping[str, float] = {
    "crm": 5.0,
    "whatsapp": 15.0,
    "system": 10.0,
    "browser": 30.0,
    "email": 10.0,
    "drive": 60.0,
    "calendar": 10.0,
    "http": 15.0,
    "ai": 45.0,
    "knowledge": 3.0,
    "diagnostics": 30.0,
}


def _default_workers() -> int:
    return 4 * len(os.sched_getaffinity(0))


class Settings(BaseSettings):
    """The whole configuration. `Settings(...)` takes what it is given and nothing else; `load` reads the outside."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", hide_input_in_errors=True
    )

    listen: Listen = Field("127.0.0.1:50051", description="gRPC: host:port (port 0: any free one) or unix:/path.")
    http_listen: HttpListen = Field("127.0.0.1:8080", description="/metrics and /healthz: host:port. Empty: off.")
    data_dir: Folder = Field(Path(".toolwright"), description="Folder for everything that is kept on disk.")
    server_id: str = Field(
        "",
        validate_default=True,
        description="Name of this server in every record. Empty: the host's name and a random part.",
    )
    insecure: bool = Field(
        default=False,
        description="Allow an address other than loopback, although callers prove nothing or nothing is encrypted.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Server processes that share the port, one event loop each; more than one need PostgreSQL and "
        "Redis. Limits of calls, memory and files hold for each process.",
    )
    reflection: bool = Field(default=True, description="Whether the server describes its services to anybody who asks.")
    auth: Names = Field(
        ("none",), description="How callers prove who they are: none, api-key, jwt, or api-key,jwt. See identity.md."
    )
    pepper_file: File = Field(
        "", description="Secret without which no API key opens; made at the first start. Empty: pepper in data_dir."
    )
    jwt_issuer: str = Field("", description="Tokens: the issuer (iss) whose are believed.")
    jwt_audience: str = Field("", description="Tokens: the audience (aud) that they must name.")
    jwt_jwks: str = Field("", description="Tokens: the issuer's public keys (JWKS), an https URL or a file.")
    jwt_jwks_refresh_seconds: Seconds = Field(300, description="Tokens: how often a URL's keys are read again.")
    jwt_algorithms: Algorithms = Field(
        ("RS256", "PS256", "ES256", "EdDSA", "Ed25519"), description="Tokens: the algorithms that may sign them."
    )
    jwt_leeway_seconds: Pause = Field(30, le=600, description="Tokens: how far clocks may differ.")
    jwt_tenant_claim: str = Field("", description="Tokens: claim with the tenant. Empty: everybody is in `default`.")
    jwt_principal_claim: str = Field("sub", description="Tokens: claim that says whose request ids they share.")
    jwt_user_claim: str = Field("sub", description="Tokens: claim with the user.")
    jwt_role_claim: str = Field(
        "", description="Tokens: claim among whose words agent, operator or admin is. Empty: everybody is an agent."
    )
    jwt_scopes_claim: str = Field(
        "", description="Tokens: claim with the tools that may be called, as crm.*. Empty: all may be called."
    )
    jwt_acts_for_claim: str = Field("", description="Tokens: claim with further users that calls may name.")
    tls_certificate_file: File = Field(
        "", description="The server's certificate and its chain (PEM); read again when changed. Empty: no encryption."
    )
    tls_key_file: File = Field("", description="The certificate's private key (PEM).")
    tls_client_certificates: Literal["none", "accept", "require"] = Field(
        "none",
        description="Whether callers show certificates: none, accept (on tls_client_listen) or require.",
    )
    tls_client_ca_file: File = Field("", description="The authorities that sign callers' certificates (PEM).")
    tls_client_listen: ListenOrNone = Field(
        "", description="With accept: a second address, for callers that show a certificate: host:port or unix:/path."
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="Where records are kept: postgresql://user:password@host/database. Empty: SQLite in data_dir.",
        json_schema_extra={"default_text": "empty"},
    )
    sqlite_synchronous: Literal["full", "normal", "off"] = Field(
        "full",
        description="What a power cut may take from SQLite: full nothing, normal the last commits, off the file.",
    )
    sqlite_cache_bytes: Bytes = Field(64 * _MIB, description="Memory for SQLite's pages while it is written to.")
    storage_timeout_seconds: Seconds = Field(
        5, description="How long a call waits for the database before it is refused, or its outcome spilled."
    )
    lease_seconds: Seconds = Field(
        15, description="A server that does not say for so long that it lives is taken for dead by the others."
    )
    spill_limit_bytes: Bytes = Field(
        16 * _MIB, description="File, taken at start, for outcomes that the database does not take."
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="Where servers share limits and circuits, Redis or Valkey: redis://user:password@host:port/0, or "
        "rediss://, encrypted. Empty: each has its own.",
        json_schema_extra={"default_text": "empty"},
    )
    redis_timeout_milliseconds: Seconds = Field(
        10, description="How long a call waits for it; then rules decide by their `fail`. See shared-store.md."
    )
    redis_lease_seconds: Seconds = Field(
        30,
        description="Places and probes of calls that nobody says still run, as of a dead server, are free after that.",
    )
    audit_key_file: str = Field(
        "",
        description="Key that signs the audit trail, outside data_dir; made at the first start. "
        "Empty: toolwright/audit.key in XDG_CONFIG_HOME or ~/.config.",
    )
    audit_public_keys: Names = Field(
        (), description="Files with public keys of other servers and earlier times, separated by commas."
    )
    audit_checkpoint_seconds: Seconds = Field(30, description="How often the audit trail is signed while it grows.")
    toolkits: Names = Field((), description="Toolkits to load, separated by commas. Empty: all that are installed.")
    tools: Names = Field((), description="Modules or .py files with tools to load as well, separated by commas.")
    toolkit: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="A toolkit's own settings, one table each: [toolkit.knowledge]."
    )

    default_timeout_seconds: Seconds = Field(30, description="For tools whose category has no timeout.")
    maximum_timeout_seconds: Seconds = Field(3600, description="No call runs longer, whatever is asked for.")
    category_timeouts_seconds: dict[str, Seconds] = Field(
        default_factory=dict,
        validate_default=True,
        description="Timeout by category, for tools that declare none. What is given is merged over the defaults.",
    )
    stop_grace_seconds: Pause = Field(
        0.010, description="How long an answer waits for the confirmation that its stopped work has ended."
    )

    process_workers: Count = Field(
        default_factory=_default_workers,
        description="Worker processes for synchronous tools.",
        json_schema_extra={"default_text": "4 per core"},
    )
    process_extra_workers: CountOrNone = Field(
        default_factory=_default_workers,
        description="Workers that nested calls may add while all are busy.",
        json_schema_extra={"default_text": "4 per core"},
    )
    process_queue_limit: CountOrNone = Field(256, description="Calls that may wait for a worker; more are refused.")
    process_memory_limit_bytes: Bytes = Field(1 * _GIB, description="Memory of one worker, unless a tool sets its own.")
    process_calls_per_worker: Count = Field(10_000, description="A worker is replaced after so many calls.")
    process_environment: Variables = Field(
        (), description="Names of environment variables that workers may see, separated by commas."
    )
    thread_workers: Count = Field(8, description="Threads for tools that chose them.")
    thread_queue_limit: CountOrNone = Field(64, description="Calls that may wait for a thread; more are refused.")
    nesting_limit: Count = Field(16, description="How deep tools may call tools.")

    arguments_limit_bytes: Bytes = Field(4 * _MIB, description="Arguments of one call, as JSON.")
    result_limit_bytes: Bytes = Field(4 * _MIB, description="Result of one call, as JSON.")
    output_limit_bytes: Bytes = Field(64 * _MIB, description="What one call may send as output in all.")
    result_inline_limit_bytes: Bytes = Field(
        1 * _MIB, description="A result that is larger, as JSON, is answered as an artifact. See artifacts.md."
    )
    artifact_dir: File = Field(
        "", description="Folder for the bytes of artifacts; servers may share it. Empty: artifacts in data_dir."
    )
    artifact_limit_bytes: Bytes = Field(256 * _MIB, description="One artifact.")
    artifacts_per_execution_limit: Count = Field(16, description="Artifacts of one call.")
    artifacts_total_bytes: Bytes = Field(4 * _GIB, description="All artifacts together; beyond it none is written.")
    artifact_retention_hours: Pause = Field(
        168, description="After so long artifacts cannot be read any more, or with the payload. 0: with the payload."
    )
    events_limit_bytes: Bytes = Field(256 * _KIB, description="Events of one execution that are kept in memory.")
    events_spill_limit_bytes: CountOrNone = Field(
        64 * _MIB, description="Events of one execution that are kept on disk beyond that."
    )
    events_spill_total_bytes: CountOrNone = Field(
        _GIB, description="Events of all executions on disk; those of ended ones go first, the oldest before."
    )
    events_spill_files_limit: CountOrNone = Field(
        256, description="Executions with events on disk, each of which holds a descriptor; ended ones go first."
    )
    executions_kept_count: Count = Field(10_000, description="Ended executions that are kept.")
    executions_kept_bytes: Bytes = Field(256 * _MIB, description="Memory that ended executions may take.")
    executions_kept_seconds: Seconds = Field(86_400, description="How long an ended execution is kept.")
    retention_executions_days: Days = Field(
        90, description="Executions that ended longer ago are erased from the database. 0: never."
    )
    retention_payloads_days: Days = Field(
        30, description="Their arguments and results are erased after so long, the rest stays. 0: with the execution."
    )
    retention_audit_days: Days = Field(
        365, description="Audit entries that are older are erased; the trail stays verifiable. 0: never."
    )
    retention_usage_days: Days = Field(
        400, description="Figures of usage for calls that are older are erased; they outlive executions. 0: never."
    )
    retention_interval_seconds: Seconds = Field(3_600, description="How often all this is looked after.")
    credits: Literal["granted", "required"] = Field(
        "granted",
        description="Which tenants pay for priced tools: granted: those that were ever granted credits; required: all.",
    )

    concurrent_calls_limit: Count = Field(1000, description="Calls in flight; more are refused.")
    watching_streams_limit: Count = Field(
        1000, description="WaitExecution streams that are open; more are refused. They do not count as calls in flight."
    )
    running_executions_limit: Count = Field(
        2000, description="Executions that have not ended, with detached and nested ones; more are refused."
    )
    limits_file: File = Field(
        "", description="TOML file with rules over those that are built in; read again when changed. See limits.md."
    )
    limits_file_check_seconds: Seconds = Field(2, description="How often limits_file is looked at for changes.")
    limits_queue_limit: CountOrNone = Field(
        256, description="Calls that may wait for others to end under a limit of running calls; more are refused."
    )
    cache_redis_url: SecretStr = Field(
        SecretStr(""),
        description="Where servers share results, if not in redis_url: one that may evict. See caching.md.",
        json_schema_extra={"default_text": "empty"},
    )
    cache_entries: Count = Field(
        10_000, description="Results of tools with a cache policy that are kept in memory; then the oldest go."
    )
    cache_bytes: Bytes = Field(64 * _MIB, description="Their size together, with what keeping them takes.")
    cache_entry_limit_bytes: Bytes = Field(256 * _KIB, description="The largest result that is kept, also in Redis.")
    metadata_limit_bytes: Bytes = Field(16 * _KIB, description="Metadata of one call.")
    message_limit_bytes: Bytes = Field(16 * _MIB, description="One gRPC message; above the limits of what it carries.")
    drain_notice_seconds: Pause = Field(
        2, description="After SIGTERM: how long calls are still accepted while health says NOT_SERVING."
    )
    drain_grace_seconds: Pause = Field(
        30, description="How long running calls may go on then; after it they are cancelled."
    )

    log_level: LogLevel = Field(
        "info", description="Least level that is logged: debug, info, warning, error or critical."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, json elsewhere; or json, or text."
    )
    loop_blocked_seconds: Seconds = Field(
        1.0, description="An event loop that stands still so long is reported by name, and /healthz says 503."
    )
    span_file_limit_bytes: Bytes = Field(16 * _MIB, description="File of spans in the data directory, when it is used.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the constructor is given: `load` decides what is read from outside, and in which order."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @pydantic.field_validator("category_timeouts_seconds")
    @classmethod
    def _merge(cls, value: dict[str, float]) -> dict[str, float]:
        return {**CATEGORY_TIMEOUTS_SECONDS, **value}

    @pydantic.field_validator("server_id")
    @classmethod
    def _identify(cls, value: str) -> str:
        return value or f"{socket.gethostname()}-{secrets.token_hex(4)}"

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if sentences := (*trusted(self), *shareable(self)):
            raise ValueError("\n".join(sentences))
        for name in ("arguments_limit_bytes", "result_limit_bytes"):
            if getattr(self, name) >= self.message_limit_bytes:
                raise ValueError(
                    f"{name} = {getattr(self, name)} must be below message_limit_bytes = {self.message_limit_bytes}, "
                    "or gRPC refuses such a message before it can be answered: lower the one or raise the other"
                )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether gRPC can only be reached from this machine."""
        return Address.parse(self.listen).is_loopback

    @property
    def artifact_path(self) -> Path:
        """Where artifacts are."""
        return Path(self.artifact_dir) if self.artifact_dir else self.data_dir / "artifacts"

    @property
    def pepper_path(self) -> Path:
        """Where the pepper of API keys is."""
        return Path(self.pepper_file) if self.pepper_file else self.data_dir / "pepper"
