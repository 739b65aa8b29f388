"""Large results: bytes that tools write to storage as they come, described in the result and read in pages."""
