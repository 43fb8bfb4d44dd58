"""What Lookbook talks to: lake, registry, warehouses, Kaggle, settings, a home's servers. Imports nothing of ours."""
