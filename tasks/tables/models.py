"""The star schema: one SELECT a model, in the `.sql` files of the folder ``models``."""

from __future__ import annotations

from importlib import resources

from lookbook.blocks.warehouse import Model

#: The models and the columns that name one of their rows, each after the models that it reads.
MODEL_KEYS: dict[str, tuple[str, ...]] = {
    "dim_category": ("master_category", "sub_category", "article_type"),
    "dim_colour": ("base_colour",),
    "dim_season": ("season", "year"),
    "dim_gender": ("gender",),
    "dim_usage": ("usage",),
    "fact_product": ("product_key",),
    "agg_products_by_category": ("master_category", "sub_category", "article_type"),
    "agg_products_by_season_year": ("season", "year"),
    "agg_products_by_colour": ("base_colour",),
    "agg_image_sizes": ("original_width", "original_height"),
    "agg_image_quality": ("measure", "bin_from"),
    "agg_image_issues": ("issue",),
    "agg_missing_images": ("kind", "reason"),
    "near_duplicate_groups": ("canonical_key",),
}


def load_models() -> list[Model]:
    """Return the models, each after the models that it reads."""
    folder = resources.files("lookbook.tasks.datasets") / "models"
    return [Model(name, (folder / f"{name}.sql").read_text(encoding="utf-8"), key) for name, key in MODEL_KEYS.items()]
