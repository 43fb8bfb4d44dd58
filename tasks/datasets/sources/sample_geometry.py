"""Outlines and layers: what the products of the sample catalogue are drawn with, on a sheet of 900 × 1200 points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Line = tuple[Sequence[Point], float]

WIDTH, HEIGHT = 900, 1200
METAL, DARK, PALE, GOLD = "#b9bec6", "#2b2c30", "#f1efe9", "#c9a24b"


@dataclass(frozen=True)
class Layer:
    """One colour of a drawing.

    Attributes:
        colour: ``#rrggbb``, or a factor on the product's own colour (below 1 darker, above 1 lighter).
        polygons: filled outlines.
        lines: a course and its width in points.
        inside: drawn only where the product already is.
    """

    colour: str | float
    polygons: Sequence[Sequence[Point]] = ()
    lines: Sequence[Line] = ()
    inside: bool = False


def smooth(points: Sequence[Point], *, closed: bool = True, steps: int = 7) -> list[Point]:
    """Return a Catmull-Rom spline through `points`; a point given twice is a corner."""
    around = [points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]]
    course: list[Point] = []
    for (x0, y0), (x1, y1), (x2, y2), (x3, y3) in zip(around, around[1:], around[2:], around[3:], strict=False):
        if (x1, y1) == (x2, y2):
            continue
        for step in range(steps):
            t = step / steps
            a, b, c, d = -t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2
            course.append(((a * x0 + b * x1 + c * x2 + d * x3) / 2, (a * y0 + b * y1 + c * y2 + d * y3) / 2))
    return course if closed else [*course, points[-1]]


def ellipse(x: float, y: float, rx: float, ry: float) -> list[Point]:
    """Return an ellipse around a centre."""
    k = 0.7071
    corners = [(1, 0), (k, k), (0, 1), (-k, k), (-1, 0), (-k, -k), (0, -1), (k, -k)]
    return smooth([(x + rx * dx, y + ry * dy) for dx, dy in corners])


def symmetric(right: Sequence[Point], top: Sequence[Point] = ()) -> list[Point]:
    """Return a closed outline from its right half, given from top to bottom, and points on the axis at the top."""
    return smooth([*right, *[(WIDTH - x, y) for x, y in reversed(right)], *top])


def both(course: Sequence[Point], width: float) -> list[Line]:
    """Return a line and its mirror image."""
    return [(course, width), ([(WIDTH - x, y) for x, y in course], width)]


def box(left: float, top: float, right: float, bottom: float, radius: float = 0) -> list[Point]:
    """Return a rectangle with corners rounded by about `radius`."""
    if not radius:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    across, down = (left + radius, right - radius), (top + radius, bottom - radius)
    upper: list[Point] = [(left, down[0]), (across[0], top), (across[1], top), (right, down[0])]
    lower: list[Point] = [(right, down[1]), (across[1], bottom), (across[0], bottom), (left, down[1])]
    return smooth([*upper, *lower])
