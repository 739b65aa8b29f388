"""API keys: who may make, see and end them. Proving that a caller has one is `identity`'s."""
