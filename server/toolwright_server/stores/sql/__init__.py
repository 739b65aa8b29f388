"""Where the record is kept for good: SQLite in the data directory, or PostgreSQL."""
