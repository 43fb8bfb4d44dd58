"""The report of a snapshot."""
