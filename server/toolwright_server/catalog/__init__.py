"""Which tools exist: their description, schemas and the functions behind them."""
