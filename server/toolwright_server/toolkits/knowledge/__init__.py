"""Finds passages in folders of Markdown and text that the operator named. The same for every tenant.

Never reads outside those folders, never follows a symbolic link, never writes into them.
"""

from toolwright_server.toolkits.knowledge import tools
from toolwright_server.toolkits.knowledge.kit import toolkit

__all__ = ["toolkit", "tools"]
