"""The circuits of one server, put together: where they are kept, who is told of changes, what metrics show."""

import logging
from typing import Final

from toolwright_server.app.limits import Limits
from toolwright_server.catalog.registry import Catalog
from toolwright_server.execution.circuits.breaker import Breaker
from toolwright_server.execution.circuits.model import CircuitState
from toolwright_server.execution.circuits.store import CircuitStore
from toolwright_server.execution.circuits.watch import CircuitWatch
from toolwright_server.execution.intake import ExecutorOptions, declared_timeout
from toolwright_server.settings import Settings
from toolwright_server.stores.memory.circuits import MemoryCircuitStore
from toolwright_server.stores.redis.opening import circuits_of
from toolwright_server.telemetry import Metrics

_logger = logging.getLogger(__name__)

_SHOWN: Final = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 1.0, CircuitState.OPEN: 2.0}


def breaker(
    settings: Settings, options: ExecutorOptions, catalog: Catalog, limits: Limits, metrics: Metrics
) -> Breaker:
    """The breaker of a server whose limits were opened: it shares the store with them, if there is one."""
    lease, watch = settings.redis_lease_seconds, CircuitWatch(metrics)
    local = MemoryCircuitStore(watch.changed, lease)
    store: CircuitStore = local
    if limits.shared is not None:
        store = circuits_of(limits.shared, local, watch.changed, lease)
    made = Breaker(store, catalog, lambda tool: declared_timeout(options, tool)[0], metrics, lease_seconds=lease)
    metrics.circuits.observe(lambda: {name: _SHOWN[standing.state] for name, standing in made.standings().items()})
    for tool in catalog.all():
        for name in tool.alternatives:
            if catalog.offered(name) is None:
                _logger.warning("%s names %s as an alternative, and no such tool is loaded", tool.name, name)
    return made
