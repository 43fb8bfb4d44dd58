"""Contenders that are not ours. They import nothing of ours, and run in an environment of their own."""
