"""The KeyService: reads a request, asks the registry, writes the answer."""

from toolwright.v1 import keys_pb2 as pb
from toolwright_server.errors import invalid
from toolwright_server.keys import wire
from toolwright_server.keys.registry import KeyRegistry
from toolwright_server.rpc import lists
from toolwright_server.rpc.call import RpcCall

PAGE_DEFAULT = 100


class KeyService:
    """One method per rpc of toolwright.v1.KeyService; the proto says what each answers."""

    def __init__(self, registry: KeyRegistry) -> None:
        self._registry = registry

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: RpcCall) -> pb.CreateApiKeyResponse:
        key, text = await self._registry.create(wire.key_request(request), call.caller)
        return pb.CreateApiKeyResponse(api_key=wire.api_key(key), secret=text)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, call: RpcCall) -> pb.ListApiKeysResponse:
        size = lists.page_size(request.page_size, PAGE_DEFAULT)
        asked = (call.method, request.tenant_id)
        after = lists.page_start(request.page_token, *asked)
        found = await self._registry.list(request.tenant_id, after, size + 1, call.caller)
        more = lists.page_token(found[size - 1].key_id, *asked) if len(found) > size else ""
        return pb.ListApiKeysResponse(api_keys=[wire.api_key(key) for key in found[:size]], next_page_token=more)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, call: RpcCall) -> pb.RevokeApiKeyResponse:
        if not request.key_id:
            raise invalid("key_id", "is required")
        return pb.RevokeApiKeyResponse(api_key=wire.api_key(await self._registry.revoke(request.key_id, call.caller)))
