"""Executions that another server runs: waiting for them, and telling them to stop, through the shared record."""
