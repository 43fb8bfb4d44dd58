"""Drawing the sample catalogue's images: products as outlines and layers on white, softly lit."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import ExifTags, Image, ImageChops, ImageColor, ImageDraw, ImageFilter
from PIL.TiffImagePlugin import IFDRational

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


# ruff: noqa: PLR2004 - the numbers are the drawing


def tshirt(variant: int) -> list[Layer]:
    """Return a T-shirt: plain, striped, or with a print."""
    right: list[Point] = [(530, 205), (530, 205), (650, 240), (745, 300), (850, 520), (850, 520), (735, 575)]
    right += [(735, 575), (688, 470), (694, 720), (704, 1020), (704, 1020)]
    neck = smooth([(368, 208), (410, 262), (450, 280), (490, 262), (532, 208)], closed=False)
    layers = [Layer(0.55, [ellipse(450, 212, 84, 30)]), Layer(1.0, [symmetric(right, [(450, 278)])])]
    if variant % 3 == 1:
        layers.append(Layer(PALE, [box(0, y, 900, y + 34) for y in range(360, 1000, 92)], inside=True))
    elif variant % 3 == 2:
        layers.append(Layer(PALE, [ellipse(450, 520, 108, 108)], inside=True))
        layers.append(Layer(0.8, [ellipse(450, 520, 78, 78), box(300, 660, 600, 690)], inside=True))
    seams = [*both([(688, 470), (655, 330), (648, 244)], 4), *both([(838, 494), (724, 550)], 4)]
    return [*layers, Layer(0.82, lines=[(neck, 15), *seams, ([(190, 990), (710, 990)], 4)], inside=True)]


def shirt(variant: int) -> list[Layer]:
    """Return a buttoned shirt with a collar and long sleeves."""
    right: list[Point] = [(520, 190), (520, 190), (640, 235), (715, 300), (790, 620), (835, 900), (835, 900)]
    right += [(755, 920), (755, 920), (700, 640), (672, 500), (680, 760), (694, 1010), (640, 1060)]
    collar = [(450, 290), (450, 290), (520, 180), (540, 175), (590, 230), (535, 330), (535, 330)]
    layers = [Layer(0.55, [ellipse(450, 195, 82, 26)]), Layer(1.0, [symmetric(right, [(450, 240)])])]
    if variant % 2:
        pin_stripes = [([(x, 150), (x, 1100)], 3.0) for x in range(110, 840, 30)]
        layers.append(Layer(PALE if variant % 4 == 1 else 0.8, lines=pin_stripes, inside=True))
    seams: list[Line] = [([(450, 290), (450, 1060)], 5.0), ([(482, 320), (482, 1060)], 3.0)]
    seams += [*both([(674, 500), (650, 340), (640, 240)], 4), *both([(742, 862), (826, 842)], 5)]
    collars = [smooth(collar), smooth([(WIDTH - x, y) for x, y in collar])]
    layers += [Layer(0.8, lines=seams, inside=True), Layer(1.06, collars)]
    layers.append(Layer(0.78, lines=[([*course, course[0]], 3.0) for course in collars]))
    return [*layers, Layer(PALE, [ellipse(466, y, 8, 8) for y in range(350, 1040, 108)])]


def dress(variant: int) -> list[Layer]:
    """Return a dress with a fitted bodice and a flared skirt."""
    hem = 760 if variant % 2 else 700
    right: list[Point] = [(540, 150), (570, 150), (570, 150), (562, 270), (605, 350), (580, 450), (545, 545)]
    right += [(600, 720), (hem - 40, 950), (hem, 1075), (hem, 1075)]
    folds = [course for x in (30, 75, 125) for course in both([(450 + x, 580), (450 + 2.1 * x, 1090)], 6)]
    outline = smooth([*right, (450, 1105), *[(WIDTH - x, y) for x, y in reversed(right)], (400, 290), (500, 290)])
    layers = [Layer(1.0, [outline]), Layer(0.86, lines=folds, inside=True)]
    if variant % 3 == 2:
        dots = [ellipse(x + (y // 70 % 2) * 38, y, 9, 9) for y in range(330, 1100, 70) for x in range(120, 800, 76)]
        layers.append(Layer(PALE, dots, inside=True))
    return [*layers, Layer(DARK if variant % 2 else 0.65, [box(300, 525, 600, 565)], inside=True)]


def trousers(variant: int) -> list[Layer]:
    """Jeans or trousers, slim or straight."""
    ankle = 565 if variant % 2 else 610
    right: list[Point] = [(585, 130), (585, 130), (615, 300), (625, 480), (ankle + 25, 800), (ankle, 1090)]
    right += [(ankle, 1090), (ankle - 105, 1090), (ankle - 105, 1090), (480, 700), (450, 440)]
    seams = [*both([(590, 215), (545, 260), (500, 195)], 5), ([(450, 190), (450, 440)], 4.0)]
    seams += [*both([(ankle - 108, 1062), (ankle + 6, 1062)], 4), ([(300, 190), (600, 190)], 5.0)]
    loops = Layer(0.7, [box(x, 132, x + 16, 200) for x in (340, 442, 544)], inside=True)
    button = Layer(GOLD, [ellipse(450, 163, 11, 11)])
    layers = [Layer(1.0, [symmetric(right)]), Layer(0.72, lines=seams, inside=True), loops, button]
    worn = Layer(1.14, [ellipse(x, 560, 38, 180) for x in (365, 535)], inside=True)
    return [layers[0], worn, *layers[1:]] if variant % 3 == 0 else layers


def shoe(variant: int) -> list[Layer]:
    """Return a sneaker, seen from its side."""
    upper: list[Point] = [(150, 500), (150, 500), (215, 535), (330, 520), (395, 450), (395, 450), (470, 520)]
    upper += [(590, 610), (720, 650), (800, 715), (805, 770), (805, 770), (125, 770), (125, 770), (140, 640)]
    sole: list[Point] = [(112, 750), (112, 750), (450, 762), (812, 750), (812, 750), (825, 790), (780, 828)]
    sole += [(450, 832), (150, 830), (108, 800)]
    laces = [([(398 + 44 * i, 492 + 40 * i), (452 + 42 * i, 452 + 46 * i)], 13.0) for i in range(4)]
    toe = smooth([(610, 620), (720, 650), (800, 715), (805, 770), (805, 770), (640, 770), (640, 770), (660, 690)])
    heel = smooth([(150, 500), (150, 500), (215, 535), (235, 640), (230, 770), (125, 770), (125, 770), (140, 640)])
    layers = [Layer(1.0, [smooth(upper)]), Layer(0.78, [toe, heel], inside=True)]
    if variant % 2:
        bands = [([(330 + 70 * i, 770), (410 + 60 * i, 560)], 24.0) for i in range(3)]
        layers.append(Layer(PALE, lines=bands, inside=True))
    else:
        swoosh = smooth([(260, 640), (330, 720), (480, 690), (640, 610), (470, 650), (350, 670)])
        layers.append(Layer(PALE, [swoosh], inside=True))
    return [
        *layers,
        Layer(PALE, lines=laces),
        Layer(PALE, [smooth(sole)]),
        Layer(METAL, lines=[([(112, 800), (822, 800)], 7.0)]),
    ]


def handbag(variant: int) -> list[Layer]:
    """Return a handbag: a tote or one with a flap."""
    body = smooth([(215, 500), (215, 500), (685, 500), (685, 500), (770, 960), (740, 1000), (160, 1000), (130, 960)])
    handle = smooth([(310, 520), (318, 340), (450, 225), (582, 340), (590, 520)], closed=False)
    layers = [Layer(0.7, lines=[(handle, 30)]), Layer(1.0, [body])]
    if variant % 2:
        flap = smooth([(205, 495), (205, 495), (695, 495), (695, 495), (715, 690), (450, 780), (185, 690)])
        layers += [
            Layer(0.86, [flap]),
            Layer(GOLD, [ellipse(450, 742, 32, 32)]),
            Layer(DARK, [ellipse(450, 742, 12, 12)]),
        ]
    else:
        stitches = [
            *both([(640, 500), (690, 1000)], 6),
            ([(120, 900), (780, 900)], 6.0),
            ([(180, 560), (720, 560)], 5.0),
        ]
        layers += [Layer(0.76, lines=stitches, inside=True)]
    return [*layers, Layer(GOLD, [ellipse(310, 520, 20, 20), ellipse(590, 520, 20, 20)])]


def watch(variant: int) -> list[Layer]:
    """Return a wrist watch on a strap."""
    strap = symmetric([(528, 110), (528, 110), (560, 420), (560, 780), (528, 1090), (528, 1090)])
    around = ellipse(450, 600, 150, 150)
    ticks = [([(450 + (x - 450) * 0.84, 600 + (y - 600) * 0.84), (x, y)], 9.0) for x, y in around[:: len(around) // 12]]
    rim = GOLD if variant % 3 == 0 else METAL
    face = DARK if variant % 2 else PALE
    hand = PALE if variant % 2 else DARK
    hands = [([(450, 600), (450 + 55, 530)], 15.0), ([(450, 600), (410, 478)], 10.0)]
    links = [([(300, y), (600, y)], 5.0) for y in [*range(150, 400, 46), *range(820, 1090, 46)]]
    case = [box(640, 575, 680, 625), ellipse(450, 600, 208, 208)]
    return [
        Layer(1.0, [strap]),
        Layer(0.75, lines=links, inside=True),
        Layer(rim, case),
        Layer(0.5, [ellipse(450, 600, 182, 182)]),
        Layer(face, [ellipse(450, 600, 172, 172)]),
        Layer(rim, lines=ticks),
        Layer(hand, [ellipse(450, 600, 14, 14)], hands),
    ]


def cap(variant: int) -> list[Layer]:
    """Return a baseball cap, its visor to the right."""
    dome = smooth(
        [
            (165, 720),
            (165, 720),
            (175, 560),
            (270, 420),
            (420, 365),
            (560, 420),
            (640, 560),
            (660, 730),
            (660, 730),
            (420, 700),
        ]
    )
    visor = smooth([(420, 690), (640, 660), (800, 720), (860, 800), (840, 815), (640, 770), (420, 740)])
    seams = [
        (smooth([(420, 368), (350, 500), (330, 705)], closed=False), 5.0),
        (smooth([(420, 368), (530, 500), (560, 705)], closed=False), 5.0),
    ]
    badge = Layer(PALE, [ellipse(480, 560, 58, 58)]) if variant % 2 else Layer(0.8, [box(425, 520, 545, 600, 20)])
    return [
        Layer(0.72, [visor]),
        Layer(1.0, [dome]),
        Layer(0.78, lines=seams, inside=True),
        Layer(0.8, [ellipse(420, 364, 26, 12)]),
        badge,
    ]


def sunglasses(variant: int) -> list[Layer]:
    """Sunglasses, round or square."""
    radius = 150 if variant % 2 else 132
    lenses = [ellipse(255, 610, radius, radius), ellipse(645, 610, radius, radius)]
    if variant % 3 == 0:
        lenses = [box(105, 500, 405, 725, 70), box(495, 500, 795, 725, 70)]
    bridge = smooth([(385, 575), (450, 545), (515, 575)], closed=False)
    arms = both(smooth([(790, 560), (852, 520), (868, 430)], closed=False), 18)
    rims = [([*lens, lens[0], lens[1]], 22.0) for lens in lenses]
    glints = [([(x - 70, 640), (x + 20, 530)], 16.0) for x in (240, 630)]
    return [
        Layer(1.0, lenses, [(bridge, 24), *arms]),
        Layer(DARK, lenses),
        Layer(1.0, lines=rims),
        Layer("#6b6e78", lines=glints),
    ]


def perfume(variant: int) -> list[Layer]:
    """Return a bottle of perfume."""
    bottle = (
        box(250, 430, 650, 1040, 60)
        if variant % 2
        else symmetric([(520, 430), (640, 520), (690, 760), (640, 1000), (560, 1040)])
    )
    cap_ = Layer(GOLD if variant % 3 else DARK, [box(370, 190, 530, 380, 18)])
    label = [
        Layer(PALE, [box(340, 660, 560, 860, 10)]),
        Layer(METAL, lines=[([(385, y), (515, y)], 8.0) for y in (720, 760, 800)]),
    ]
    shine = Layer(1.3, lines=[([(318, 560), (318, 940)], 22.0)], inside=True)
    return [cap_, Layer(METAL, [box(400, 375, 500, 440)]), Layer(1.0, [bottle]), shine, *label]


#: Drawings come back after so many variants of a product; colour and light differ all the same.
VARIANTS = 12

SHAPES: dict[str, Callable[[int], list[Layer]]] = {
    "Tshirts": tshirt, "Shirts": shirt, "Dresses": dress, "Jeans": trousers, "Sports Shoes": shoe,
    "Handbags": handbag, "Watches": watch, "Caps": cap, "Sunglasses": sunglasses, "Perfume and Body Mist": perfume,
}  # fmt: skip


@lru_cache(maxsize=VARIANTS * len(SHAPES))
def layers_of(article: str, variant: int) -> tuple[Layer, ...]:
    """Return the layers of one of `SHAPES`, from the back to the front; `variant` below `VARIANTS`."""
    return tuple(SHAPES[article](variant))


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
