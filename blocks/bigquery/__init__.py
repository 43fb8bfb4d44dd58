"""The warehouse in BigQuery. Needs the extra gcp."""
