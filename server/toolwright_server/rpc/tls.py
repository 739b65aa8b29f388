"""Certificates of the server, read again when their files change: what gRPC is given for each new connection.

Files that cannot be used, such as a certificate whose key has not arrived yet, change nothing until they can.
"""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from toolwright_server.errors import SettingsError

_logger = logging.getLogger(__name__)

_Signature = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's certificate chain and key, and the authorities that sign its clients' certificates."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """The files that there are."""
        found = (self.certificate, self.key, self.client_authorities)
        return tuple(path for path in found if path is not None)


class Certificates:
    """The certificates of one server, shared by its addresses."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files. Raises SettingsError when they cannot be used."""
        self._files = files
        self._lock = threading.Lock()
        try:
            self._seen = _signature(files)
            self._pem = _read(files)
        except (OSError, ValueError) as error:
            raise SettingsError(f"TLS cannot be set up: {_why(error)}") from None

    def credentials(self, *, require_client: bool) -> grpc.ServerCredentials:
        """For one address; with `require_client` callers must show a certificate, else none is asked for.

        gRPC for Python knows nothing in between, such as asking and going on without.
        """

        def configuration() -> grpc.ServerCertificateConfiguration:
            # Called by gRPC's own threads before every handshake.
            certificate, key, authorities = self._current()
            return grpc.ssl_server_certificate_configuration(
                [(key, certificate)], root_certificates=authorities if require_client else None
            )

        return grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=require_client
        )

    def _current(self) -> tuple[bytes, bytes, bytes | None]:
        with self._lock:
            try:
                signature = _signature(self._files)
                if signature != self._seen:
                    self._seen = signature
                    self._pem = _read(self._files)
                    _logger.info("read changed certificates: %s", self._files.certificate)
            except (OSError, ValueError) as error:
                _logger.warning("kept the certificates as they were: %s", _why(error))
            return self._pem


def _signature(files: TlsFiles) -> _Signature:
    """What changes when a file does; a link that now leads elsewhere, as Kubernetes changes secrets, is a change."""
    stats = [path.stat() for path in files.all]
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def _read(files: TlsFiles) -> tuple[bytes, bytes, bytes | None]:
    """Certificate, key, authorities. Raises OSError, or ValueError with what is wrong."""
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    chain = _certificates(certificate, files.certificate)
    try:
        public = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError):
        raise ValueError(f"{files.key} is no private key in PEM, or has a password") from None
    if _bytes(public) != _bytes(chain[0].public_key()):
        raise ValueError(f"the key in {files.key} does not belong to the certificate in {files.certificate}")
    if files.client_authorities is None:
        return certificate, key, None
    authorities = files.client_authorities.read_bytes()
    _certificates(authorities, files.client_authorities)
    return certificate, key, authorities


def _certificates(content: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM") from None


def _bytes(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    assert public_bytes is not None
    encoded: bytes = public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _why(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
