"""SQL models: dimensions and facts made of loaded tables, tested before they take the place of the former ones."""

from typing import TYPE_CHECKING, Any

from lookbook.tasks.tables.star.checking import check_models

if TYPE_CHECKING:
    from lookbook.tasks.tables.star.building import ModelResult, build

__all__ = ["ModelResult", "build", "check_models"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what building defines
    """Return what builds is imported when it is asked for: specs are checked before Prefect may be imported."""
    if name not in __all__:
        raise AttributeError(name)
    from lookbook.tasks.tables.star import building  # noqa: PLC0415

    return getattr(building, name)
