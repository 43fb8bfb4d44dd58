"""The report of a snapshot: data, charts, pictures, and the page made of them. Reads tables, and writes nothing."""
