"""The gRPC server: its limits, its address, its services, health and reflection. Knows no service by name."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from toolwright_server.identity.authenticator import Authenticator, Everybody
from toolwright_server.rpc import health, reflection
from toolwright_server.rpc.gate import Gate
from toolwright_server.rpc.handlers import Pipeline, generic_handler, method_names
from toolwright_server.rpc.health import Health
from toolwright_server.rpc.observe import Observer, Unobserved
from toolwright_server.rpc.ports import check_free, unusable
from toolwright_server.rpc.tls import Certificates, TlsFiles
from toolwright_server.settings import Address, Settings

_MIB = 1024**2
_UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RpcOptions:
    """What may be set. `listen` is `host:port` (port 0: any free one) or `unix:/path`.

    The server tolerates pings that are at least `ping_interval_minimum_seconds` apart, with and without calls (below
    the 10 s that load balancers and clients use, as pings travel unevenly), and itself asks a connection that has been
    silent for `keepalive_seconds` whether it lives. `connection_age_seconds` None: connections live without a limit.
    `tls` None: nothing is encrypted. Callers of `listen` must show a certificate with `client_certificates_required`,
    those of `client_listen`, a second address, in any case. With `shares_port` the addresses are reserved (ports.py),
    and other processes of the same server listen on them as well.
    """

    listen: str = "127.0.0.1:50051"
    concurrent_calls_limit: int = 1000
    watching_streams_limit: int = 1000
    message_limit_bytes: int = 16 * _MIB
    metadata_limit_bytes: int = 16 * 1024
    ping_interval_minimum_seconds: float = 5.0
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 20.0
    connection_age_seconds: float | None = None
    connection_age_grace_seconds: float = 30.0
    reflection: bool = True
    tls: TlsFiles | None = None
    client_certificates_required: bool = False
    client_listen: str = ""
    shares_port: bool = False

    @classmethod
    def of(cls, settings: Settings, *, shares_port: bool = False) -> "RpcOptions":
        """The options among the settings."""
        return cls(
            listen=settings.listen,
            concurrent_calls_limit=settings.concurrent_calls_limit,
            watching_streams_limit=settings.watching_streams_limit,
            message_limit_bytes=settings.message_limit_bytes,
            metadata_limit_bytes=settings.metadata_limit_bytes,
            reflection=settings.reflection,
            tls=_tls(settings),
            client_certificates_required=settings.tls_client_certificates == "require",
            client_listen=settings.tls_client_listen,
            shares_port=shares_port,
        )


class RpcServer:
    """`add` the services, then `start`; `Drain` ends it. Made and used on the event loop."""

    def __init__(self, options: RpcOptions, observer: Observer, authenticator: Authenticator | None = None) -> None:
        """`authenticator` None: everybody is let in, as the operator of this machine."""
        self.options = options
        self._authenticator = authenticator or Everybody()
        self.health = Health()
        self.gate = Gate(options.concurrent_calls_limit, options.watching_streams_limit)
        # Where callers show certificates, as it was bound; empty when there is no second address.
        self.client_address = ""
        self._observer = observer
        self._services: list[str] = []
        self._methods: list[str] = []
        self._server = grpc.aio.server(options=_channel_arguments(options))

    def add(self, service: ServiceDescriptor, servicer: object, ends_at_drain: Collection[str] = ()) -> None:
        """Serve `service` with `servicer`, as `generic_handler` says. Raises SettingsError where they do not fit."""
        pipeline = Pipeline(self._observer, self.gate, self.options.message_limit_bytes, self._authenticator)
        self._server.add_generic_rpc_handlers((generic_handler(service, servicer, pipeline, ends_at_drain),))
        self._services.append(service.full_name)
        self._methods.extend(method_names(service))

    async def start(self) -> str:
        """Listen; returns the address, with the port that was chosen.

        Raises SettingsError when the address cannot be used, for example because another server has it.
        """
        self._observer.declare(self._methods)
        services = [*self._services, health.SERVICE.full_name]
        self.health.declare([*services, *(reflection.SERVICES if self.options.reflection else ())])
        self.health.attach(asyncio.get_running_loop())
        # Neither counts, nor is seen, nor is refused in a drain, nor must say who asks.
        exempt = Pipeline(Unobserved(), Gate(_UNLIMITED, _UNLIMITED), self.options.message_limit_bytes, Everybody())
        self._server.add_generic_rpc_handlers((generic_handler(health.SERVICE, self.health, exempt),))
        if self.options.reflection:
            self._server.add_generic_rpc_handlers(reflection.reflection_handlers(services))
        certificates = None if self.options.tls is None else Certificates(self.options.tls)
        bound = self._bind(self.options.listen, certificates, self.options.client_certificates_required)
        if self.options.client_listen:
            self.client_address = self._bind(self.options.client_listen, certificates, require_client=True)
        await self._server.start()
        return bound

    async def stop(self, grace_seconds: float) -> None:
        """Stop listening at once, and cut off the calls that are left after `grace_seconds`."""
        await self._server.stop(grace_seconds)

    def _bind(self, listen: str, certificates: Certificates | None, require_client: bool) -> str:
        address = Address.parse(listen)
        if not self.options.shares_port:
            check_free(address, listen)
        try:
            if certificates is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, certificates.credentials(require_client=require_client))
        except RuntimeError as error:
            raise unusable(listen, "gRPC cannot listen on it") from error
        return listen if address.path else f"{listen.rpartition(':')[0]}:{port}"


def _tls(settings: Settings) -> TlsFiles | None:
    if not settings.tls_certificate_file:
        return None
    authorities = Path(settings.tls_client_ca_file) if settings.tls_client_ca_file else None
    return TlsFiles(Path(settings.tls_certificate_file), Path(settings.tls_key_file), authorities)


def _channel_arguments(options: RpcOptions) -> list[tuple[str, int]]:
    arguments = [
        # Otherwise a second server shares the port in silence.
        ("grpc.so_reuseport", int(options.shares_port)),
        ("grpc.max_receive_message_length", options.message_limit_bytes),
        ("grpc.max_send_message_length", options.message_limit_bytes),
        # One limit: between two, gRPC refuses at random.
        ("grpc.max_metadata_size", options.metadata_limit_bytes),
        ("grpc.absolute_max_metadata_size", options.metadata_limit_bytes),
        # Calls that wait to be taken in: beyond 1,000 gRPC cancels at random, without a word of why.
        ("grpc.server.max_pending_requests", _UNLIMITED),
        ("grpc.server.max_pending_requests_hard_limit", _UNLIMITED),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(options.ping_interval_minimum_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", _ms(options.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _ms(options.keepalive_timeout_seconds)),
    ]
    if options.connection_age_seconds is not None:
        arguments.append(("grpc.max_connection_age_ms", _ms(options.connection_age_seconds)))
        arguments.append(("grpc.max_connection_age_grace_ms", _ms(options.connection_age_grace_seconds)))
    return arguments


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
