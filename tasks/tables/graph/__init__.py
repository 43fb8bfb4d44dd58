"""Graphs of tables: rows as nodes, keys and mentions in texts as edges, and questions along a path."""

from typing import TYPE_CHECKING, Any

from lookbook.tasks.tables.graph.checking import check_graph

if TYPE_CHECKING:
    from lookbook.tasks.tables.graph.building import GraphResult, build

__all__ = ["GraphResult", "build", "check_graph"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what building defines
    """Return what builds is imported when it is asked for: specs are checked before Prefect may be imported."""
    if name not in __all__:
        raise AttributeError(name)
    from lookbook.tasks.tables.graph import building  # noqa: PLC0415

    return getattr(building, name)
