"""What several processes or machines share in Redis or Valkey: counters of limits. Loss is tolerable, and rebuilt."""
