"""Credits: a double-entry ledger of what was granted, held, charged, given back and has expired."""
