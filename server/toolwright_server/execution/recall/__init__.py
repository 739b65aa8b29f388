"""Answers that calls share: kept ones, and those of the same call in flight."""
