"""What was called, how it went, how long it took and what it cost: sums that are kept up to date with every outcome."""
