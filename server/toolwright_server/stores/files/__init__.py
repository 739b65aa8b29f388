"""What is kept in plain files."""
