"""The audit trail: who did what, in chains that show when they were touched. See docs/audit.md."""
