"""Loading staged rows into tables."""

from lookbook.tasks.tables.load.books import open_rejects
from lookbook.tasks.tables.load.loading import load, replay
from lookbook.tasks.tables.load.writing import LoadResult, destination

__all__ = ["LoadResult", "destination", "load", "open_rejects", "replay"]
