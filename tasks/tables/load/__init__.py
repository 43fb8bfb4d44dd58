"""Loading staged rows into tables."""

from tasks.tables.load.books import open_rejects
from tasks.tables.load.loading import load
from tasks.tables.load.replaying import replay
from tasks.tables.load.writing import LoadResult, destination

__all__ = ["LoadResult", "destination", "load", "open_rejects", "replay"]
