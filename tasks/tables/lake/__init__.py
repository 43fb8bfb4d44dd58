"""Tables in the lake: Parquet in folders by partition, and one object that says which files count. No databases."""
