"""Drawing one image of the sample catalogue: a product on white, softly lit."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageChops, ImageColor, ImageDraw, ImageFilter
from PIL.TiffImagePlugin import IFDRational

from lookbook.tasks.datasets.sources.sample_geometry import HEIGHT, WIDTH, Layer, Point
from lookbook.tasks.datasets.sources.sample_shapes import SHAPES, VARIANTS, layers_of

#: Images up to this longer edge, in pixels, are drawn at twice their size.
DRAWN_FINER = 600

COLOURS: dict[str, str] = {
    "Black": "#34353a", "White": "#ece9e3", "Grey": "#8e9196", "Navy Blue": "#2c3a61", "Blue": "#3f6fb5",
    "Red": "#b9343a", "Maroon": "#74293a", "Green": "#4c7d55", "Olive": "#77773f", "Yellow": "#e2b93b",
    "Orange": "#dd7a35", "Pink": "#df8fa8", "Purple": "#6f5396", "Brown": "#80573d", "Beige": "#cbb491",
    "Teal": "#2f7f83",
}  # fmt: skip

CAMERAS = [("NIKON CORPORATION", "NIKON D90"), ("Canon", "Canon EOS 5D Mark II"), ("FUJIFILM", "X-T1"), ("", "")]

_ROTATED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class Photo:
    """What is drawn, and how it is kept.

    Attributes:
        index: place in the catalogue; it alone seeds what is random.
        article: a name of `SHAPES`.
        colour: a name of `COLOURS`.
        size: pixels as displayed.
        extension: jpg, png or webp.
        mode: RGB, L or CMYK.
        orientation: EXIF orientation that the file is kept in.
    """

    index: int
    article: str
    colour: str
    size: tuple[int, int]
    extension: str = "jpg"
    mode: str = "RGB"
    orientation: int = 1


def encoded(photo: Photo) -> bytes:
    """Return the file of `photo`: the same bytes each time with the same Pillow."""
    image = draw(photo)
    if photo.mode != "RGB":
        image = image.convert(photo.mode)
    if photo.orientation != 1:
        image = image.transpose(_ROTATED[photo.orientation])
    file = io.BytesIO()
    if photo.extension == "png":
        image.save(file, "PNG", compress_level=2)
    elif photo.extension == "webp":
        image.save(file, "WEBP", quality=85, method=2)
    else:
        image.save(file, "JPEG", quality=88, exif=_exif(photo), dpi=(72, 72))
    return file.getvalue()


def draw(photo: Photo) -> Image.Image:
    """Draw `photo` in RGB, upright."""
    chance = random.Random(photo.index)  # noqa: S311 - must be the same each time
    pen = _Pen(photo.size)
    layers = [(layer, pen.mask(layer)) for layer in layers_of(photo.article, photo.index // len(SHAPES) % VARIANTS)]
    image = Image.new("RGB", photo.size, "white")
    product = Image.new("L", photo.size)
    for mask in [mask for layer, mask in layers if not layer.inside]:
        product = ImageChops.lighter(product, mask)
    _cast_shadow(image, product)
    light = _light(product, chance)
    own = ImageColor.getrgb(COLOURS[photo.colour])
    so_far = Image.new("L", photo.size)
    for layer, mask in layers:
        shown = ImageChops.multiply(mask, so_far) if layer.inside else mask
        if not layer.inside:
            so_far = ImageChops.lighter(so_far, mask)
        _paint(image, shown, _colour(layer, own), light)
    return image


class _Pen:
    """Draws layers as masks of an image's size. Small ones are drawn at twice their size, for smooth edges."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.finer = 2 if max(size) <= DRAWN_FINER else 1
        width, height = size[0] * self.finer, size[1] * self.finer
        # What is drawn in landscape is wide: it fills the width, and the empty upper and lower parts are cut.
        self.scale = width / WIDTH if width > height else min(width / WIDTH, height / HEIGHT)
        self.left = (width - WIDTH * self.scale) / 2
        self.top = (height - HEIGHT * self.scale) / 2

    def mask(self, layer: Layer) -> Image.Image:
        """White where the layer is, in mode L."""
        mask = Image.new("L", (self.size[0] * self.finer, self.size[1] * self.finer))
        pencil = ImageDraw.Draw(mask)
        for polygon in layer.polygons:
            pencil.polygon(self._placed(polygon), fill=255)
        for course, width in layer.lines:
            pencil.line(self._placed(course), fill=255, width=max(1, round(width * self.scale)), joint="curve")
        return mask.reduce(self.finer) if self.finer > 1 else mask.filter(ImageFilter.SMOOTH)

    def _placed(self, points: Sequence[Point]) -> list[Point]:
        return [(self.left + x * self.scale, self.top + y * self.scale) for x, y in points]


def _colour(layer: Layer, own: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(layer.colour, str):
        return ImageColor.getrgb(layer.colour)
    return tuple(min(255, round(channel * layer.colour)) for channel in own[:3])


def _cast_shadow(image: Image.Image, product: Image.Image) -> None:
    """Darken the ground a little below and beside the product."""
    width, height = image.size
    soft = product.resize((width // 10, height // 10), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(2.2))
    soft = ImageChops.offset(soft.resize(image.size, Image.Resampling.BILINEAR), width // 90, height // 50)
    image.paste((150, 152, 160), mask=soft.point([value * 2 // 5 for value in range(256)]))


def _light(product: Image.Image, chance: random.Random) -> Image.Image:
    """Factors (255 is 1) of the light on the product: darker to its edges, uneven like cloth."""
    width, height = product.size
    folds = Image.frombytes("L", (8, 10), chance.randbytes(80)).resize(
        (width // 4, height // 4), Image.Resampling.BICUBIC
    )
    folds = folds.point([218 + value * 37 // 255 for value in range(256)])
    inner = product.resize((width // 8, height // 8), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(3))
    inner = inner.resize(folds.size, Image.Resampling.BILINEAR)
    inner = inner.point([150 + value * 105 // 255 for value in range(256)])
    light = ImageChops.multiply(folds, inner).resize(product.size, Image.Resampling.BILINEAR)
    return Image.merge("RGB", [light] * 3)


def _paint(image: Image.Image, mask: Image.Image, colour: tuple[int, ...], light: Image.Image) -> None:
    area = mask.getbbox()
    if area is None:
        return
    lit = ImageChops.multiply(Image.new("RGB", (area[2] - area[0], area[3] - area[1]), colour), light.crop(area))
    image.paste(lit, area[:2], mask.crop(area))


def _exif(photo: Photo) -> Image.Exif:
    exif = Image.Exif()
    make, model = CAMERAS[photo.index % len(CAMERAS)]
    day, minute = 1 + photo.index // 60 % 28, photo.index % 60
    if make:
        taken = f"2012:{1 + photo.index // 1680 % 12:02}:{day:02} {9 + photo.index // 7 % 9:02}:{minute:02}:00"
        exif.update({ExifTags.Base.Make: make, ExifTags.Base.Model: model, ExifTags.Base.DateTime: taken})
        exif[ExifTags.Base.Software] = "Lookbook sample"
        exif.get_ifd(ExifTags.IFD.Exif).update(
            {
                ExifTags.Base.DateTimeOriginal: taken,
                ExifTags.Base.ExposureTime: IFDRational(1, 125),
                ExifTags.Base.FNumber: IFDRational(28 + photo.index % 4 * 12, 10),
                ExifTags.Base.ISOSpeedRatings: 100 << photo.index % 3,
                ExifTags.Base.FocalLength: IFDRational(60 + photo.index % 3 * 15, 1),
            }
        )
    if photo.orientation != 1:
        exif[ExifTags.Base.Orientation] = photo.orientation
    return exif
