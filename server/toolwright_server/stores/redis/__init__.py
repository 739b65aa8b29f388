"""What several processes or machines share in Redis or Valkey: counters, circuits, results. Loss is tolerable."""
