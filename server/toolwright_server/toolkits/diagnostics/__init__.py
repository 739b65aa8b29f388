"""Tools that show how the server behaves: they wait, burn, block, fail, crash and flood on demand.

Never of use to an agent in production: loaded on loopback, or when the operator names the toolkit.
"""

from toolwright_server.toolkits.diagnostics import answers, failures, nesting, waits
from toolwright_server.toolkits.diagnostics.kit import toolkit

__all__ = ["answers", "failures", "nesting", "toolkit", "waits"]
