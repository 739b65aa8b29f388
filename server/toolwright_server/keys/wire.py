"""Between the protos and the keys' registry."""

from google.protobuf.timestamp_pb2 import Timestamp

from toolwright.v1 import keys_pb2 as pb
from toolwright_server.errors import invalid
from toolwright_server.identity import Role
from toolwright_server.identity.keys import ApiKey
from toolwright_server.keys.registry import KeyRequest

_ROLES = {role: pb.Role.Value(f"ROLE_{role.name}") for role in Role}
_READ = {number: role for role, number in _ROLES.items()} | {pb.ROLE_UNSPECIFIED: Role.AGENT}
# As far as Timestamps and Durations reach.
_LONGEST_SECONDS = 100 * 366 * 86_400


def api_key(key: ApiKey) -> pb.ApiKey:
    """A key, without its text and what is kept of it."""
    message = pb.ApiKey(
        key_id=key.key_id,
        tenant_id=key.tenant,
        principal=key.principal,
        user_id=key.user,
        role=_ROLES[key.role],
        acts_for=sorted(key.acts_for),
        scopes=key.scopes,
        label=key.label,
    )
    _set(message.create_time, key.create_time)
    if key.expire_time is not None:
        _set(message.expire_time, key.expire_time)
    if key.revoke_time is not None:
        _set(message.revoke_time, key.revoke_time)
    return message


def key_request(request: pb.CreateApiKeyRequest) -> KeyRequest:
    """The key that is asked for. Raises INVALID_ARGUMENTS."""
    role = _READ.get(request.role)
    if role is None:
        raise invalid("role", f"{request.role} is no role")
    lives: float | None = None
    if request.HasField("time_to_live"):
        lives = request.time_to_live.seconds + request.time_to_live.nanos / 1e9
        if not 1 <= lives <= _LONGEST_SECONDS:
            raise invalid("time_to_live", "must be 1 second to 100 years")
    return KeyRequest(
        user=request.user_id,
        tenant=request.tenant_id,
        principal=request.principal,
        role=role,
        acts_for=tuple(request.acts_for),
        scopes=tuple(request.scopes),
        label=request.label,
        lives=lives,
    )


def _set(field: Timestamp, seconds: float) -> None:
    field.FromMicroseconds(round(seconds * 1e6))
