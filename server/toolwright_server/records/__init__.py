"""What is kept so that it can be proven later. Knows nothing of how tools are run."""
