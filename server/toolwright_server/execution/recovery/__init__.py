"""Servers that end or are ended, what they left behind, and outcomes that nobody knows."""
