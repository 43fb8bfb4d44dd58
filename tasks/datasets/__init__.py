"""Datasets: sources, catalogue, plan, snapshot, publishing, verifying, report. No exports, no pipelines."""
