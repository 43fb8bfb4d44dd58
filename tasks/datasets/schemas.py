"""The columns of a snapshot's Parquet files, and the star schema that the warehouse makes of them."""

from __future__ import annotations

from importlib import resources

import pyarrow as pa

from lookbook.blocks.warehouse import StarModel
from lookbook.tasks.images.items import ASSET_FIELDS

#: One row per image file of the source. `width` and `height` are pixels of the recipe's first output. The asset's
#: columns are null where the image was rejected; a duplicate has those of the content that it shares.
IMAGES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("outcome", pa.string()),  # loaded, duplicate or rejected
        pa.field("duplicate_of", pa.string()),  # key of the image with the same bytes, else null
        pa.field("rule", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orphan", pa.bool_()),  # no catalogue row names it
        pa.field("product_key", pa.string()),  # null for orphans
        *ASSET_FIELDS,
        pa.field("odd_size_score", pa.float64()),  # among all images of the snapshot
        pa.field("is_dark_issue", pa.bool_()),  # this and the following: null where the image was rejected
        pa.field("is_light_issue", pa.bool_()),
        pa.field("is_blurry_issue", pa.bool_()),
        pa.field("is_low_information_issue", pa.bool_()),
        pa.field("is_odd_aspect_ratio_issue", pa.bool_()),
        pa.field("is_odd_size_issue", pa.bool_()),
        pa.field("is_grayscale_issue", pa.bool_()),
        pa.field("is_damaged_issue", pa.bool_()),  # null also where its decoder does not tell, or the recipe keeps it
        # Names and meaning as in CleanVision. Copies have what the content that they share has.
        pa.field("is_exact_duplicates_issue", pa.bool_()),  # other keys have the same bytes
        pa.field("is_near_duplicates_issue", pa.bool_()),  # in a group of images that look the same
        pa.field("near_duplicates_score", pa.float64()),  # 0: pixels as the canonical image; 1: in no group
        pa.field("near_duplicate_of", pa.string()),  # key of the group's canonical image; null for itself
    ]
)

#: One row per distinct original and output. `sha256` is the original's, `output_sha256` that of the output's bytes.
OUTPUTS_SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("output", pa.string()),
        pa.field("output_digest", pa.string()),
        pa.field("object_key", pa.string()),
        pa.field("output_sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)

#: One row per catalogue row that was not rejected: these columns, then the catalogue's own.
PRODUCTS_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("product_key", pa.string()),
        pa.field("outcome", pa.string()),  # matched, missing_image, ambiguous_image or duplicate
        pa.field("missing_reason", pa.string()),  # null, no_image, image_rejected:<rule>, beyond_limit, several_files
        pa.field("repaired", pa.bool_()),
        pa.field("image_key", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("file_name", pa.string()),  # as the row gave it; null where it names none
        pa.field("matched_by", pa.string()),  # how the image was found: a rule of `lookbook.tasks.datasets.links`
        pa.field("candidates", pa.string()),  # of an ambiguous row: the files that fit
    ]
)

#: The catalogue's own columns in a `styles.csv`. The warehouse has them for every collection, null where absent.
STYLES_FIELDS: list[pa.Field] = [
    pa.field("id", pa.int64()),
    pa.field("gender", pa.string()),
    pa.field("masterCategory", pa.string()),
    pa.field("subCategory", pa.string()),
    pa.field("articleType", pa.string()),
    pa.field("baseColour", pa.string()),
    pa.field("season", pa.string()),
    pa.field("year", pa.int64()),
    pa.field("usage", pa.string()),
    pa.field("productDisplayName", pa.string()),
]

#: One row per line of `images.csv`.
LINKS_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("filename", pa.string()),
        pa.field("link", pa.string()),
    ]
)

#: One row per reject, whatever its kind, with the raw row or a pointer to the bytes.
REJECTS_SCHEMA = pa.schema(
    [
        pa.field("reject_id", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("locator", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("message", pa.string()),
        pa.field("raw", pa.string()),
    ]
)


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


def load_models() -> list[StarModel]:
    """Return the models, each after the models that it reads."""
    folder = resources.files("lookbook.tasks.datasets") / "models"
    return [
        StarModel(name, (folder / f"{name}.sql").read_text(encoding="utf-8"), key) for name, key in MODEL_KEYS.items()
    ]
