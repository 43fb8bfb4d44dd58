"""The contact sheet of an export: small pictures of images spread over all of it."""

from __future__ import annotations

import io

from PIL import Image

from lookbook.tasks.exports.drawing import THUMBNAIL_EDGE
from lookbook.tasks.exports.samples import SHEET
from lookbook.tasks.images.decode import decode, open_image
from lookbook.tasks.images.recipe import Recipe

_COLUMNS_OF_SHEET = 8


def contact_sheet(thumbnails: list[bytes]) -> bytes:
    """Return small pictures side by side, as a JPEG."""
    shown = thumbnails[:SHEET]
    lines = max(1, -(-len(shown) // _COLUMNS_OF_SHEET))
    sheet = Image.new("RGB", (_COLUMNS_OF_SHEET * THUMBNAIL_EDGE, lines * THUMBNAIL_EDGE), "white")
    for place, data in enumerate(shown):
        corner = (place % _COLUMNS_OF_SHEET * THUMBNAIL_EDGE, place // _COLUMNS_OF_SHEET * THUMBNAIL_EDGE)
        sheet.paste(decode(open_image(data, Recipe()), 1).image, corner)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=85)
    return file.getvalue()
