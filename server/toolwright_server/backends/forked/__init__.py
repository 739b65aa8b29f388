"""What runs in the fork server and in worker processes. Never imports asyncio, gRPC or anything of the executor's."""
