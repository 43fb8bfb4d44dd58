"""SQL models: dimensions and facts made of loaded tables, tested before they take the place of the former ones."""

from tasks.tables.star.building import ModelResult, build
from tasks.tables.star.checking import check_models

__all__ = ["ModelResult", "build", "check_models"]
