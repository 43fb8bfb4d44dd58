"""What stands on a Prefect server, and what `lookbook serve` runs here. No commands, no printing."""
