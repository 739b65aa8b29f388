"""Calls Toolwright tools, async and blocking."""
