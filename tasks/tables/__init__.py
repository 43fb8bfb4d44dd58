"""Pipelines in YAML and their tables: sources, transforms, loads, models, graphs, queries. No exports."""
