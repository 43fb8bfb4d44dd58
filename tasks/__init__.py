"""What is done: pure functions, with thin task wrappers where a step deserves them."""
