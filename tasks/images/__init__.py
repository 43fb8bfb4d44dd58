"""The data plane: recipe, decode, draw, measure, batch. Knows no database and no Prefect run."""
