"""The data plane: recipe, decode, draw, measure, one batch. Knows no database, no Prefect run, no dataset."""
