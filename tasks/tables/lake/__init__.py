"""Tables in the lake: Parquet files in folders by partition, with one object that says which of them count."""
