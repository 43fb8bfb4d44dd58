"""The charts of a report: which are shown, their shapes as SVG coordinates, and how named colours look."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import ImageColor

from lookbook.tasks.datasets.report.data import (
    ReportData,
    catalogue_columns,
    column,
    named_column,
    plain_name,
    with_outcome,
)

# The charts are drawn by hand, as a few rectangles in the template's macros. A plotting library would weigh more than
# the whole of Lookbook (matplotlib: 30 MB) and give pictures that know no dark mode and no screen reader.

#: The sign between width and height.
TIMES = "\N{MULTIPLICATION SIGN}"

Counts = list[tuple[str, int]]

#: Width of every chart in user units; a chart is scaled to its card.
WIDTH = 400
LABEL_WIDTH = 148
NUMBER_WIDTH = 62
SWATCH_WIDTH = 20
LETTER_WIDTH = 7.5
PLOT_HEIGHT = 150

#: A bar that stands for something can be seen.
THINNEST = 1.5

#: From here on a number is told in thousands, or without its fraction.
IN_THOUSANDS, WITHOUT_FRACTION = 10_000, 100

#: Bars of a histogram.
BINS = 24


class Bar(NamedTuple):
    """One bar of a bar chart: its length in user units, and its swatch as an SVG fill or ""."""

    label: str
    number: int
    share: float
    length: float
    swatch: str = ""


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars from `start`, one for each value, largest first. The rest is a number without a bar."""

    kind: ClassVar[str] = "bars"
    title: str
    bars: list[Bar]
    start: int

    @property
    def text(self) -> str:
        """The chart in words."""
        return "; ".join(f"{bar.label}: {bar.number:,} ({bar.share:.1%})" for bar in self.bars)


def bar_chart(title: str, counts: Counts, swatches: dict[str, str] | None = None, *, limit: int = 12) -> BarChart:
    """Draw the most frequent values.

    What lies beyond `limit` is summed up in a last line. It has no bar: at its scale the others would vanish.
    """
    shown, rest = counts[:limit], counts[limit:]
    total = sum(number for _, number in counts)
    longest = max([number for _, number in shown], default=1)
    paints = swatches or {}
    start = LABEL_WIDTH + (SWATCH_WIDTH if paints else 0)
    room = WIDTH - start - NUMBER_WIDTH
    bars = [
        Bar(label, number, number / total, max(room * number / longest, THINNEST), paints.get(label, ""))
        for label, number in shown
    ]
    if rest:
        others = sum(number for _, number in rest)
        bars.append(Bar(f"{len(rest):,} other{'s' if len(rest) > 1 else ''}", others, others / total, 0))
    return BarChart(title, bars, start)


class Segment(NamedTuple):
    """One rectangle of a stack, or of a histogram, in user units from the top left."""

    x: float
    y: float
    width: float
    height: float
    series: int
    text: str


class Tick(NamedTuple):
    """A labelled place on the horizontal axis."""

    x: float
    label: str


@dataclass(frozen=True)
class ColumnChart:
    """Upright columns on a horizontal axis: a histogram, or stacks with a legend of their series."""

    kind: ClassVar[str] = "columns"
    title: str
    segments: list[Segment]
    ticks: list[Tick]
    legend: list[str]
    text: str
    highest: int
    marker: Tick | None = None


def histogram(
    title: str,
    values: npt.NDArray[np.float64],
    bounds: tuple[float, float] | None = None,
    *,
    logarithmic: bool = False,
) -> ColumnChart | None:
    """Draw how a measure is spread, with its median; None where no value is finite.

    Args:
        title: title of the chart.
        values: the measures; nulls are NaN.
        bounds: ends of the axis; by default those of the values.
        logarithmic: equal ratios are equally wide. Values of zero and below stand in the first column.
    """
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    edges = _edges(values, bounds, logarithmic=logarithmic)
    numbers, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    low, quarter, median, three_quarters, high = np.percentile(values, [0, 25, 50, 75, 100])
    text = (
        f"{values.size:,} images from {short(low)} to {short(high)}; "
        f"half of them between {short(quarter)} and {short(three_quarters)}; median {short(median)}"
    )
    step, tallest = WIDTH / BINS, int(numbers.max())
    segments = [
        Segment(
            x=index * step + 0.75,
            y=PLOT_HEIGHT * (1 - number / tallest),
            width=step - 1.5,
            height=PLOT_HEIGHT * number / tallest,
            series=0,
            text=f"{short(edges[index])} to {short(edges[index + 1])}: {number:,}",
        )
        for index, number in enumerate(numbers.tolist())
        if number
    ]
    ticks = [Tick(index * step, short(edges[index])) for index in range(0, BINS + 1, BINS // 4)]
    place = float(np.interp(median, edges, np.arange(BINS + 1) * step))
    return ColumnChart(title, segments, ticks, [], text, tallest, Tick(place, f"median {short(median)}"))


def _edges(
    values: npt.NDArray[np.float64], bounds: tuple[float, float] | None, *, logarithmic: bool
) -> npt.NDArray[np.float64]:
    if logarithmic:
        positive = values[values > 0]
        low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 10.0)
        return np.geomspace(low, high if high > low else low * 10, BINS + 1)
    low, high = bounds or (float(values.min()), float(values.max()))
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def stacked_columns(title: str, stacks: list[tuple[str, dict[str, int]]], series: list[str]) -> ColumnChart:
    """Draw one column per stack, in the given order, each made of its series from the bottom up."""
    step = WIDTH / max(len(stacks), 1)
    highest = max([sum(stack.values()) for _, stack in stacks], default=1)
    segments, ticks, words = [], [], []
    widest = max([len(label) for label, _ in stacks], default=0) * LETTER_WIDTH
    labelled = math.ceil((widest + LETTER_WIDTH) / step)
    for index, (label, stack) in enumerate(stacks):
        top = float(PLOT_HEIGHT)
        for place, name in enumerate(series):
            if number := stack.get(name, 0):
                height = PLOT_HEIGHT * number / highest
                top -= height
                text = f"{label}, {name}: {number:,}"
                segments.append(Segment(index * step + step * 0.1, top, step * 0.8, height, place, text))
        if index % labelled == 0:
            ticks.append(Tick((index + 0.5) * step, label))
        words.append(f"{label}: {', '.join(f'{name} {stack[name]:,}' for name in series if stack.get(name))}")
    return ColumnChart(title, segments, ticks, series, "; ".join(words), highest)


def short(number: float) -> str:
    """Return a number in about three digits: 0.0048, 12.3, 4.5k."""
    if abs(number) >= IN_THOUSANDS:
        return f"{number / 1000:,.0f}k"
    if abs(number) >= WITHOUT_FRACTION or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3g}"


#: Names of the fashion trade that are no CSS colours, or not the CSS colour of that name.
TRADE_COLOURS: dict[str, str] = {
    "black": "#1b1b1d", "blue": "#2f5fd0", "bronze": "#a97142", "brown": "#7a4b2a", "burgundy": "#6d1a36",
    "charcoal": "#3d4147", "coffeebrown": "#4b3022", "copper": "#b87333", "cream": "#f7eed6",
    "fluorescentgreen": "#5dfc2e", "gold": "#d4af37", "green": "#3a8f4b", "grey": "#8a8d91",
    "greymelange": "#b3b5b8", "lavender": "#b9a4dc", "limegreen": "#8fce00", "maroon": "#7b1e2b",
    "mauve": "#b784a7", "metallic": "#a9acb6", "mushroombrown": "#b7a08b", "mustard": "#d9a520",
    "navyblue": "#1f2a52", "nude": "#e3bc9a", "offwhite": "#f4f1e8", "olive": "#6f7331", "peach": "#fbb998",
    "pink": "#ec7fa9", "purple": "#7b3f98", "red": "#d0312d", "rose": "#d9577f", "rust": "#b1481e",
    "seagreen": "#2e8b6d", "silver": "#c3c6cb", "skin": "#e8b998", "steel": "#8b97a3", "tan": "#cba877",
    "taupe": "#857468", "teal": "#137f7f", "turquoiseblue": "#2bb8c4", "white": "#ffffff",
    "yellow": "#f4cf2d", "orange": "#ee7f22", "beige": "#e5d5b5", "khaki": "#b5a772", "magenta": "#c9308e",
}  # fmt: skip

#: The paint of several colours at once; the report's template defines it.
MANY_COLOURS = "url(#many-colours)"


def swatch(name: str) -> str:
    """Return the paint of a colour's name as an SVG fill, "" where nobody knows how it looks."""
    folded = name.lower().replace(" ", "").replace("-", "").replace("_", "").replace("gray", "grey")
    if folded in ("multi", "multicolour", "multicolor", "multicoloured", "multicolored"):
        return MANY_COLOURS
    if folded in TRADE_COLOURS:
        return TRADE_COLOURS[folded]
    found = ImageColor.colormap.get(folded, "")
    return found if isinstance(found, str) else "#{:02x}{:02x}{:02x}".format(*found[:3])


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
