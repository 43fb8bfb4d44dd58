"""Every layout, depth and sample format of TIFF: the pixels that numpy makes of them, or refused as `unsupported`."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render
from tests.support.handmade import tiff
from tests.support.pictures import pixels

CASES = Path(__file__).parents[4] / "shared" / "cases" / "images"
AS_IT_IS = Recipe(outputs={"out": OutputDefinition(resize_mode="no", encode_format="png")})
WIDTH, HEIGHT = 48, 32
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # values of the tag SampleFormat
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5  # of PhotometricInterpretation


@dataclass(frozen=True)
class Layout:
    """How the samples of one TIFF are written: `extra` is the meaning of the one beside the colours, if any."""

    photometric: int
    bits: int
    kind: int
    extra: int | None
    planar: bool
    order: str
    deflated: bool
    tiled: bool
    top: float

    @property
    def colours(self) -> int:
        return {RGB: 3, CMYK: 4}.get(self.photometric, 1)

    @property
    def samples(self) -> int:
        return self.colours + (self.extra is not None)

    def shares(self) -> NDArray[np.float64]:
        """Every sample, from 0 to 1: a slope of its own in each of them."""
        across = np.arange(WIDTH) / (WIDTH - 1)
        down = np.arange(HEIGHT)[:, None] / (HEIGHT - 1)
        slopes = [(across + down) / 2, across * down, (1 - across) * down, across * (1 - down), (across + 1 - down) / 2]
        shares = np.stack(slopes[: self.colours] + slopes[4:][: self.samples - self.colours], axis=-1)
        if self.extra == 1:  # multiplied by their alpha
            shares[:, :, :-1] *= shares[:, :, -1:]
        return shares

    def stored(self) -> NDArray[np.generic]:
        values = self.shares() * self.top
        if self.kind == FLOAT:
            return values.astype(f"f{self.bits // 8}")
        return np.minimum(np.rint(values), 2.0**63).astype(np.uint64)

    def packed(self, rows: NDArray[np.generic]) -> bytes:
        """Rows of samples as bytes: each row begins a new one."""
        if self.kind == FLOAT:
            return rows.astype(f"{self.order}f{self.bits // 8}").tobytes()
        if self.bits in {8, 16, 32, 64}:
            return rows.astype(f"{self.order}u{self.bits // 8}").tobytes()
        flat = rows.reshape(rows.shape[0], -1).astype(np.uint64)
        places = np.arange(self.bits - 1, -1, -1, dtype=np.uint64)
        bits = (flat[:, :, None] >> places & np.uint64(1)).astype(np.uint8)
        if self.bits == 24 and self.order == "<":
            bits = bits.reshape(*flat.shape, 3, 8)[:, :, ::-1]
        return np.packbits(bits.reshape(rows.shape[0], -1), axis=1).tobytes()

    def file(self) -> bytes:
        values = self.stored()
        planes = [values[:, :, at : at + 1] for at in range(self.samples)] if self.planar else [values]
        strips = []
        for plane in planes:
            if self.tiled:
                for y, x in itertools.product(range(0, HEIGHT, 16), range(0, WIDTH, 16)):
                    strips.append(self.packed(plane[y : y + 16, x : x + 16]))
            else:
                strips += [self.packed(plane[y : y + 8]) for y in range(0, HEIGHT, 8)]
        if self.deflated:
            strips = [zlib.compress(strip) for strip in strips]
        tags = {
            256: (WIDTH,),
            257: (HEIGHT,),
            258: (self.bits,) * self.samples,
            259: (8 if self.deflated else 1,),
            262: (self.photometric,),
            277: (self.samples,),
            284: (2 if self.planar else 1,),
            339: (self.kind,) * self.samples,
        }
        tags |= {322: (16,), 323: (16,)} if self.tiled else {278: (8,)}
        if self.extra is not None:
            tags[338] = (self.extra,)
        return tiff(tags, *strips, where=(324, 325) if self.tiled else (273, 279), order=self.order)

    def expected(self) -> NDArray[np.float64]:
        """As RGB on white."""
        stored = self.stored().astype(np.float64)
        levels = stored / self.top
        colours, alpha = levels[:, :, : self.colours], levels[:, :, self.colours :]
        if self.photometric == WHITE_IS_ZERO:
            colours = 1 - colours
        elif self.photometric == CMYK:
            colours = (1 - colours[:, :, :3]) * (1 - colours[:, :, 3:])
        if self.extra == 1:
            colours = colours + 1 - alpha
        elif self.extra == 2:
            colours = colours * alpha + 1 - alpha
        return 255 * np.broadcast_to(colours, (HEIGHT, WIDTH, 3))


def layouts() -> Iterator[Layout]:
    """Yield them all; the uncompressed ones in strips, and the deflated ones, which libtiff reads, in tiles as well."""
    depths = [(bits, UNSIGNED, 2**bits - 1) for bits in (1, 2, 4, 8, 12, 16, 24, 32, 64)]
    depths += [(bits, SIGNED, 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)]
    depths += [(32, SIGNED, 255), (32, UNSIGNED, 255), (32, UNSIGNED, 65535)]
    depths += [(bits, FLOAT, top) for bits in (16, 32, 64) for top in (1, 255, 65535) if bits > 16 or top < 65535]
    for photometric, (bits, kind, top) in itertools.product((WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK), depths):
        for extra, planar, order in itertools.product((None, 0, 1, 2), (False, True), "<>"):
            for deflated, tiled in ((False, False), (True, False), (True, True), (False, True)):
                yield Layout(photometric, bits, kind, extra, planar, order, deflated, tiled, top)


ALL = list(layouts())


def fault(layout: Layout) -> str | None:
    """Return what is wrong with the pixels of a layout, "unsupported" where it is refused as such, else None."""
    try:
        drawn = pixels(render(layout.file(), AS_IT_IS, ["out"]).files["out"].data)
    except Rejected as refused:
        return "unsupported" if refused.rule == "unsupported" else f"{layout}: {refused}"
    # A multiplied colour of 8 bits has lost what its alpha hides.
    away = float(np.abs(drawn - layout.expected()).max())
    return f"{layout}: {away:.1f} levels away" if away > (4 if layout.extra == 1 else 2) else None


#: Photometric interpretation, bits, kind and meaning of the further sample of those that are read in either order.
READ = {
    *itertools.product((WHITE_IS_ZERO, BLACK_IS_ZERO), (1, 2, 4, 8), (UNSIGNED,), (None,)),
    *itertools.product((BLACK_IS_ZERO, RGB), (8,), (UNSIGNED,), (0, 1, 2)),
    *itertools.product((RGB,), (16,), (UNSIGNED,), (0, 1, 2)),
    *itertools.product((RGB, CMYK), (8, 16), (UNSIGNED,), (None,)),
    (CMYK, 8, UNSIGNED, 0),
    (BLACK_IS_ZERO, 16, UNSIGNED, None),
    *itertools.product((BLACK_IS_ZERO,), (16, 32), (SIGNED,), (None,)),
    *itertools.product((WHITE_IS_ZERO, BLACK_IS_ZERO), (32,), (FLOAT,), (None,)),
}
#: And of those that are read where the lower byte comes first.
READ_IN_ORDER = {(WHITE_IS_ZERO, 16, UNSIGNED, None), (BLACK_IS_ZERO, 12, UNSIGNED, None), (1, 32, UNSIGNED, None)}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK])
def test_the_pixels_are_right_or_the_kind_is_unsupported(photometric: int) -> None:
    read, faults = set(), []
    for layout in (layout for layout in ALL if layout.photometric == photometric):
        match fault(layout):
            case None if not layout.planar:
                read.add((layout.order, layout.deflated, layout.tiled, layout.bits, layout.kind, layout.extra))
            case str(text) if text != "unsupported":
                faults.append(text)
    assert not faults
    ways = itertools.product("<>", (False, True), (False, True))
    wanted = {(*way, *rest) for way in ways for first, *rest in READ if first == photometric}
    in_order = {
        ("<", *way, *rest)
        for way in itertools.product((False, True), (False, True))
        for first, *rest in READ_IN_ORDER
        if first == photometric
    }
    assert read == wanted | in_order


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("photometric", "bits"), [(BLACK_IS_ZERO, 8), (BLACK_IS_ZERO, 16), (RGB, 8), (RGB, 16), (CMYK, 8)]
)
def test_planes_of_their_own_are_read(photometric: int, bits: int, order: str, deflated: bool) -> None:
    assert fault(Layout(photometric, bits, UNSIGNED, None, True, order, deflated, False, 2**bits - 1)) is None


def test_uncompressed_colours_of_fewer_samples_are_unsupported() -> None:
    tags = {256: (8,), 257: (8,), 258: (8, 8, 8), 259: (1,), 262: (6,), 277: (3,), 278: (8,), 530: (2, 2)}
    with pytest.raises(Rejected, match="unsupported"):
        render(tiff(tags, bytes(8 * 8 * 3)), AS_IT_IS, ["out"])


@pytest.mark.parametrize(("name", "corner"), [("g_f32_255.tif", 18), ("la16.tif", None)])
def test_the_layouts_that_were_handed_to_us(name: str, corner: int | None) -> None:
    if not (CASES / name).exists():
        pytest.skip("the shared cases are not here")
    data = (CASES / name).read_bytes()
    if corner is None:
        with pytest.raises(Rejected, match="unsupported"):
            render(data, AS_IT_IS, ["out"])
    else:
        assert pixels(render(data, AS_IT_IS, ["out"]).files["out"].data)[0, 0].tolist() == [corner] * 3
