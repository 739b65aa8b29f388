"""One call: resolved, recorded, attempted inside one deadline, settled."""
