"""Circuit breakers: an upstream that fails is left alone for a while, then one call tries whether it is well again."""
