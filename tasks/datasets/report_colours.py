"""Swatches: how the colour that a catalogue names looks."""

from __future__ import annotations

from PIL import ImageColor

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
