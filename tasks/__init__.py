"""What is done: pure functions in wings, of which each imports those below it alone. No flows, no commands."""
