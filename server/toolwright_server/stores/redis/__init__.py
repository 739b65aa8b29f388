"""What several processes or machines share in Redis or Valkey: counters of limits, circuits. Loss is tolerable."""
