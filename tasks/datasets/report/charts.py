"""The charts of a report: which are shown, their shapes as SVG coordinates, and how named colours look."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from lookbook.tasks.datasets.report.data import (
    Counted,
    ReportData,
    ReportTable,
    catalogue_columns,
    given,
    named_column,
    plain_name,
)

# The charts are drawn by hand, as a few rectangles in the template's macros. A plotting library would weigh more than
# the whole of Lookbook (matplotlib: 30 MB) and give pictures that know no dark mode and no screen reader.

#: The sign between width and height.
TIMES = "\N{MULTIPLICATION SIGN}"

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

#: Bars of a histogram, and of a bar chart.
BINS, BARS = 24, 12


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


def bar_chart(title: str, counted: Counted, swatches: dict[str, str] | None = None) -> BarChart:
    """Draw the most frequent values.

    The others are summed up in a last line. It has no bar: at its scale the others would vanish.
    """
    shown, kinds, total = counted
    longest = max([number for _, number in shown], default=1)
    paints = swatches or {}
    start = LABEL_WIDTH + (SWATCH_WIDTH if paints else 0)
    room = WIDTH - start - NUMBER_WIDTH
    bars = [
        Bar(label, number, number / total, max(room * number / longest, THINNEST), paints.get(label, ""))
        for label, number in shown
    ]
    if rest := kinds - len(shown):
        others = total - sum(number for _, number in shown)
        bars.append(Bar(f"{rest:,} other{'s' if rest > 1 else ''}", others, others / total, 0))
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
    rows: ReportTable,
    measure: str,
    where: str = "true",
    bounds: tuple[float, float] | None = None,
    *,
    logarithmic: bool = False,
) -> ColumnChart | None:
    """Draw how a measure is spread, with its median; None where no value is finite.

    Args:
        title: title of the chart.
        rows: a table.
        measure: SQL for the value of a row.
        where: SQL for the rows that have one.
        bounds: ends of the axis; by default those of the values.
        logarithmic: equal ratios are equally wide. Values of zero and below stand in the first column.
    """
    where = f"WHERE {where} AND isfinite({measure})"
    ((count, low, high, least),) = rows.answer(
        f"count(*), min({measure}), max({measure}), min({measure}) FILTER ({measure} > 0)", where
    )
    if not count:
        return None
    if logarithmic:
        edges = np.geomspace(least or 1, high if least and high > least else 10 * (least or 1), BINS + 1)
    else:
        first, last = bounds or (low, high)
        edges = np.linspace(first, last if last > first else first + 1, BINS + 1)
    # What lies beyond an end of the axis stands in the column beside it.
    below = ", ".join(f"count(*) FILTER ({measure} < ?)" for _ in edges[1:-1])
    (under,) = rows.answer(below, where, *edges[1:-1].tolist())
    numbers = np.diff([0, *under, count])
    quarter, median, three_quarters = _quartiles(rows, measure, where, count)
    text = (
        f"{count:,} images from {short(low)} to {short(high)}; "
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


def _quartiles(rows: ReportTable, measure: str, where: str, count: int) -> npt.NDArray[np.float64]:
    """Return the quartiles of `count` values, between two of them in proportion, as NumPy's percentiles are."""
    places = [(count - 1) * quarter / 4 for quarter in (1, 2, 3)]
    wanted = sorted({int(end) for place in places for end in (math.floor(place), math.ceil(place))})
    numbered = f"SELECT {measure} AS value, row_number() OVER (ORDER BY {measure}) - 1 AS nth FROM {rows.view} {where}"  # noqa: S608
    found = rows.desk.rows(f"SELECT value FROM ({numbered}) WHERE list_contains(?, nth) ORDER BY nth", wanted)  # noqa: S608
    return np.asarray(np.interp(places, wanted, [value for (value,) in found]), np.float64)


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


def catalogue_charts(data: ReportData) -> list[Chart]:
    """Return products per category, season and year, colour, and per further column that sorts them into kinds."""
    products = data.products
    where = f"{products.at('outcome')} <> 'duplicate'" if "outcome" in products.names else "true"
    kinds = _columns_of_kinds(products, where)
    categories = [name for name in (named_column(products.names, (role,)) for role in CATEGORY_NAMES) if name in kinds]
    colours, year = named_column(products.names, COLOUR_NAMES), named_column(products.names, ("year",))
    season = named_column(products.names, ("season",))

    def bars(name: str) -> BarChart:
        return bar_chart(f"Products per {plain_name(name)}", products.counts(products.at(name), where, BARS))

    charts: list[Chart] = [bars(name) for name in categories if name]
    if season in kinds and year in kinds and season and year:
        charts.append(_season_and_year(products, where, season, year))
        kinds = [name for name in kinds if name not in (season, year)]
    if colours in kinds and colours:
        counted = products.counts(products.at(colours), where, 16)
        swatches = {label: swatch(label) for label, _ in counted.first}
        charts.append(bar_chart("Products per colour", counted, swatches))
    further = [name for name in kinds if name not in categories and name != colours]
    return charts + [bars(name) for name in further[:FURTHER_COLUMNS]]


def image_charts(data: ReportData) -> list[Chart]:
    """Return sizes, brightness, contrast, sharpness, formats and cameras of the loaded images."""
    images = data.images
    loaded = images.ended("loaded")
    if not images.answer("1", f"WHERE {loaded} LIMIT 1"):
        return []
    width, height, camera = (images.at(name) for name in ("original_width", "original_height", "camera_model"))

    def spread(title: str, measure: str, bounds: tuple[float, float] | None = None) -> ColumnChart | None:
        return histogram(title, images, f"({measure})::DOUBLE", loaded, bounds, logarithmic=bounds is None)

    def counted(title: str, value: str) -> BarChart | None:
        counts = images.counts(value, f"{loaded} AND ({value}) IS NOT NULL", 10)
        return bar_chart(title, counts) if counts.kinds else None

    megapixels = spread("Megapixels", f"{width}::DOUBLE * {height}::DOUBLE / 1e6")
    charts: list[Chart | None] = [
        counted(f"Width {TIMES} height, in pixels", f"{width}::VARCHAR || ' {TIMES} ' || {height}::VARCHAR"),
        megapixels if megapixels and len(megapixels.segments) > 1 else None,
        spread("Brightness, 0 to 1", images.at("brightness"), (0, 1)),
        spread("Contrast, 0 to 1", images.at("contrast"), (0, 1)),
        spread("Sharpness, variance of the Laplacian", images.at("sharpness")),
        counted("Formats and modes", f"{images.at('format')} || ' · ' || {images.at('mode')}"),
        counted("Cameras", camera),
        _dominant_colours(images, loaded),
    ]
    return [chart for chart in charts if chart]


def _columns_of_kinds(products: ReportTable, where: str) -> list[str]:
    """Return the catalogue's columns of a few values that come back, as kinds do and names don't."""
    names = [name for name in catalogue_columns(products.names) if _may_hold_kinds(products.types[name])]
    if not names:
        return []
    # About how many values a column has is enough to leave out names, which would take memory to be told apart.
    guessed = ", ".join(f"count({products.at(name)}), approx_count_distinct({products.at(name)})" for name in names)
    (counts,) = products.answer(guessed, f"WHERE {where}")
    found = []
    for name, valued, guess in zip(names, counts[::2], counts[1::2], strict=True):
        if guess <= 2 * MOST_KINDS:
            ((kinds,),) = products.answer(f"count(DISTINCT {products.at(name)})", f"WHERE {where}")
            if 1 <= kinds <= MOST_KINDS and (kinds <= valued / 2 or valued <= MOST_ROWS_OF_FEW):
                found.append(name)
    return found


def _may_hold_kinds(kind: str) -> bool:
    """Return whether the values of a type of DuckDB's can be told apart as kinds: texts, whole numbers, booleans."""
    return kind in {"VARCHAR", "BOOLEAN"} or kind.endswith(("INT", "INTEGER"))


def _season_and_year(products: ReportTable, where: str, season: str, year: str) -> ColumnChart:
    pairs = products.answer(
        f"{given(products.at(year))}, {given(products.at(season))}, count(*)", f"WHERE {where} GROUP BY ALL"
    )
    seasons: Counter[str] = Counter()
    for _, name, number in pairs:
        seasons[name] += number
    others = sorted(seasons.keys() - set(SEASONS), key=lambda name: (-seasons[name], name))
    ordered = [*(name for name in SEASONS if name in seasons), *others]
    years = sorted({when for when, *_ in pairs})
    # What does not fit is summed up, never left out.
    series = {name: name if place < MOST_SERIES else "others" for place, name in enumerate(ordered)}
    columns = {name: name if place < MOST_YEARS else "later" for place, name in enumerate(years)}
    stacks: dict[str, dict[str, int]] = {name: {} for name in columns.values()}
    for when, name, number in pairs:
        stack = stacks[columns[when]]
        stack[series[name]] = stack.get(series[name], 0) + number
    return stacked_columns("Products per season and year", list(stacks.items()), list(dict.fromkeys(series.values())))


def _dominant_colours(images: ReportTable, where: str) -> BarChart | None:
    """Dominant colours, rounded to 32 steps of each channel so that neighbours fall together."""
    if "dominant_colour" not in images.names:
        return None
    colour = images.at("dominant_colour")
    channels = ", ".join(
        f"least(255, round_even(try_cast('0x' || substr({colour}, {place}, 2) AS INTEGER) / 32, 0)::INTEGER * 32)"
        for place in (2, 4, 6)
    )
    found = images.answer(
        f"{channels}, count(*)",
        f"WHERE {where} AND regexp_full_match({colour}::VARCHAR, '#[0-9a-fA-F]{{6}}') GROUP BY ALL",
    )
    counts = [("#{:02x}{:02x}{:02x}".format(*channels), number) for *channels, number in found]
    first = sorted(counts, key=lambda pair: (-pair[1], pair[0]))[:10]
    counted = Counted(first, len(counts), sum(number for _, number in counts))
    return bar_chart("Dominant colours of the pixels", counted, {label: label for label, _ in first}) if first else None
