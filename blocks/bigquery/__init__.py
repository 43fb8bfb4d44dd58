"""The warehouse in BigQuery, by the extra gcp. The same files as in `duckdb`; nothing of other stores."""
