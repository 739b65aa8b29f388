"""Batches: many calls of one rpc, and their answers."""
