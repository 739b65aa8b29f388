"""How much may be called: rules, the counters that they name, and who waits for a place."""
