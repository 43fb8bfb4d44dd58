"""What leaves the lake: copies for people and programs that know nothing of it."""
