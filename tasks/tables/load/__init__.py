"""Loading staged rows into tables."""
