"""Calls two tools of a running server: one for its answer, one for its events. `python examples/first_client.py`."""

import asyncio
import os

from toolwright_client import AsyncClient, Progress


async def main() -> None:
    """Search the documents, then watch a tool count, inside three seconds each."""
    async with AsyncClient(os.environ.get("TOOLWRIGHT_ADDRESS", "127.0.0.1:50051"), timeout=3) as client:
        result = await client.execute("knowledge.search", {"query": "outcome unknown", "limit": 1})
        print(result.value)
        async with client.stream("diagnostics.count", {"steps": 3, "interval_seconds": 0.05}) as events:
            async for event in events:
                if isinstance(event, Progress):
                    print(f"{event.progress:.0f} of {event.total:.0f}")


if __name__ == "__main__":
    asyncio.run(main())
