"""How the events of an execution reach its readers: a cursor into its log, and messages of the contract."""
