"""Kept in the memory of this process: bounded, and gone with it."""
