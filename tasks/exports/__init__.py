"""Subsets on request: filters, splits, recipes, formats, copies, predictions. Changes no dataset; no pipelines."""
