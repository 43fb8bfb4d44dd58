"""The shapes of the report's charts: counts and measures in, SVG coordinates and a text alternative out.

The charts are drawn by hand, as a few rectangles in the template's macros. A plotting library would weigh
more than the whole of Lookbook (matplotlib: 30 MB) and give pictures that know no dark mode and no screen reader.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

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
