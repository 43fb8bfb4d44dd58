"""The embedded warehouse: one DuckDB file. The same files as in `bigquery`; nothing of other stores."""
