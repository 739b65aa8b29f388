"""What several processes or machines share in Redis or Valkey: counters of limits, and results. Loss is tolerable."""
