"""Which charts a report shows: the catalogue's columns and the images' measures."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.report_charts import (
    TIMES,
    BarChart,
    ColumnChart,
    Counts,
    bar_chart,
    histogram,
    stacked_columns,
)
from lookbook.tasks.datasets.report_colours import swatch
from lookbook.tasks.datasets.report_data import (
    ReportData,
    catalogue_columns,
    column,
    named_column,
    plain_name,
    with_outcome,
)

Chart = BarChart | ColumnChart

CATEGORY_NAMES = ("masterCategory", "category", "class", "label", "subCategory", "articleType")
COLOUR_NAMES = ("baseColour", "colour", "color", "baseColor")
SEASONS = ("Spring", "Summer", "Fall", "Autumn", "Winter")

#: A column of more values than this, or of more than half as many as rows, tells names and not kinds.
#: In a catalogue of a few rows that can't be told, and every column counts.
MOST_KINDS = 250
MOST_ROWS_OF_FEW = 20
MOST_YEARS = 16
MOST_SERIES = 6
FURTHER_COLUMNS = 4

NOT_GIVEN = "not given"


def catalogue_charts(data: ReportData) -> list[Chart]:
    """Return products per category, season and year, colour, and per further column that sorts them into kinds."""
    products = data.products
    if products.num_rows and "outcome" in products.column_names:
        products = products.filter(pc.not_equal(products["outcome"], "duplicate"))
    kinds = [name for name in catalogue_columns(products) if _sorts_into_kinds(products[name])]
    categories = [name for name in (named_column(products, (role,)) for role in CATEGORY_NAMES) if name in kinds]
    colours, year = named_column(products, COLOUR_NAMES), named_column(products, ("year",))
    season = named_column(products, ("season",))
    charts: list[Chart] = [_bars(products, name) for name in categories if name]
    if season in kinds and year in kinds and season and year:
        charts.append(_season_and_year(products, season, year))
        kinds = [name for name in kinds if name not in (season, year)]
    if colours in kinds and colours:
        counts = counts_of(products[colours])
        swatches = {label: swatch(label) for label, _ in counts}
        charts.append(bar_chart("Products per colour", counts, swatches, limit=16))
    further = [name for name in kinds if name not in categories and name != colours]
    return charts + [_bars(products, name) for name in further[:FURTHER_COLUMNS]]


def image_charts(data: ReportData) -> list[Chart]:
    """Return sizes, brightness, contrast, sharpness, formats and cameras of the loaded images."""
    images = with_outcome(data.images, "loaded")
    if images.num_rows == 0:
        return []
    megapixels = _floats(images, "original_width") * _floats(images, "original_height") / 1e6
    spread = histogram("Megapixels", megapixels, logarithmic=True) if _varies(megapixels) else None
    charts: list[Chart | None] = [
        _counted(
            f"Width {TIMES} height, in pixels", _joined(images, "original_width", "original_height", f" {TIMES} ")
        ),
        spread,
        histogram("Brightness, 0 to 1", _floats(images, "brightness"), (0, 1)),
        histogram("Contrast, 0 to 1", _floats(images, "contrast"), (0, 1)),
        histogram("Sharpness, variance of the Laplacian", _floats(images, "sharpness"), logarithmic=True),
        _counted("Formats and modes", _joined(images, "format", "mode", " · ")),
        _counted("Cameras", pc.drop_null(column(images, "camera_model"))),
        _dominant_colours(images),
    ]
    return [chart for chart in charts if chart]


def counts_of(values: pa.ChunkedArray) -> Counts:
    """Return each value as text with its count, the most frequent first, equal ones by name."""
    counted = pc.value_counts(_given(values))
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _given(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values as texts, with a name for nulls and blanks."""
    texts = pc.fill_null(pc.cast(values, pa.string()), NOT_GIVEN)
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), NOT_GIVEN, texts)


def _bars(products: pa.Table, name: str) -> BarChart:
    return bar_chart(f"Products per {plain_name(name)}", counts_of(products[name]))


def _counted(title: str, values: pa.ChunkedArray) -> BarChart | None:
    return bar_chart(title, counts_of(values), limit=10) if len(values) else None


def _sorts_into_kinds(values: pa.ChunkedArray) -> bool:
    """Return whether a column has a few values that come back, as kinds do and names don't."""
    is_plain = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not (is_plain or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        return False
    kinds = pc.count_distinct(values, mode="only_valid").as_py()
    given = len(values) - values.null_count
    return bool(1 <= kinds <= MOST_KINDS and (kinds <= given / 2 or given <= MOST_ROWS_OF_FEW))


def _season_and_year(products: pa.Table, season: str, year: str) -> ColumnChart:
    seasons = [label for label, _ in counts_of(products[season])]
    ordered = [name for name in SEASONS if name in seasons] + [name for name in seasons if name not in SEASONS]
    years = sorted(label for label, _ in counts_of(products[year]))
    # What does not fit is summed up, never left out.
    series = {name: name if place < MOST_SERIES else "others" for place, name in enumerate(ordered)}
    columns = {name: name if place < MOST_YEARS else "later" for place, name in enumerate(years)}
    stacks: dict[str, dict[str, int]] = {name: {} for name in columns.values()}
    pairs = pc.binary_join_element_wise(_given(products[year]), _given(products[season]), "\0")
    for pair, number in counts_of(pairs):
        when, _, name = pair.partition("\0")
        stack = stacks[columns[when]]
        stack[series[name]] = stack.get(series[name], 0) + number
    return stacked_columns("Products per season and year", list(stacks.items()), list(dict.fromkeys(series.values())))


def _dominant_colours(images: pa.Table) -> BarChart | None:
    """Dominant colours, rounded to 32 steps of each channel so that neighbours fall together."""
    counts: dict[str, int] = {}
    for label, number in counts_of(pc.drop_null(column(images, "dominant_colour"))):
        if re.fullmatch("#[0-9a-fA-F]{6}", label):
            channels = (int(label[place : place + 2], 16) for place in (1, 3, 5))
            rounded = "#" + "".join(f"{min(255, round(channel / 32) * 32):02x}" for channel in channels)
            counts[rounded] = counts.get(rounded, 0) + number
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    swatches = {label: label for label, _ in ordered}
    return bar_chart("Dominant colours of the pixels", ordered, swatches, limit=10) if ordered else None


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    numbers = pc.fill_null(pc.cast(column(table, name), pa.float64()), float("nan"))
    return np.asarray(numbers.to_numpy(), dtype=np.float64)


def _varies(values: npt.NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return finite.size > 0 and bool(finite.min() < finite.max())


def _joined(table: pa.Table, first: str, second: str, separator: str) -> pa.ChunkedArray:
    texts = [pc.cast(column(table, name), pa.string()) for name in (first, second)]
    return pc.drop_null(pc.binary_join_element_wise(*texts, separator))
