"""Pictures and colour profiles that tests make for themselves."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

#: Red, green and blue of Adobe RGB (1998), adapted to D50: the columns to CIE XYZ.
ADOBE_RGB_TO_XYZ = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
ADOBE_GAMMA = 563 / 256
#: The same of Display P3, as its published profile has them, and of sRGB (the ICC's sRGB2014).
DISPLAY_P3_TO_XYZ = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
D50 = (0.9642, 1.0, 0.8249)


def natural(width: int, height: int, seed: int = 7) -> Image.Image:
    """A colour image whose amplitudes fall as 1/f^1.4, as those of photographs do (mostly between 1 and 1.5)."""
    noise = np.random.default_rng(seed).standard_normal((3, height, width))
    across, down = np.fft.rfftfreq(width), np.fft.fftfreq(height)
    radius = np.maximum(np.hypot(down[:, None], across[None, :]), 1 / max(width, height))
    planes = np.fft.irfft2(np.fft.rfft2(noise) / radius**1.4, s=(height, width))
    # Channels of photographs go together: mostly luma, some colour.
    planes = planes[:1] + 0.15 * planes
    spread = (planes - planes.mean()) / planes.std()
    levels = np.clip(128 + 48 * spread, 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file of `image` in the format `kind`."""
    file = io.BytesIO()
    if kind == "HEIF":  # what reads it in Pillow does not write it
        images: Any = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
        for each in (image, *options.pop("append_images", ())):
            images.add_from_pillow(each)
        images.save(file, **options)
        return file.getvalue()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> NDArray[np.int16]:
    """The pixels of an encoded image, wide enough to subtract."""
    return np.asarray(Image.open(io.BytesIO(data))).astype(np.int16)


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal to noise ratio of two 8-bit images, in dB."""
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def adobe_rgb_profile() -> bytes:
    """An ICC profile (version 2, matrix and curves; ICC.1:2001-04) of the colours of Adobe RGB (1998)."""
    return matrix_profile("Made like Adobe RGB", ADOBE_RGB_TO_XYZ, [round(ADOBE_GAMMA * 256)])


def display_p3_profile() -> bytes:
    """The same of Display P3, its curve (that of sRGB) in 1,024 steps."""
    steps = np.linspace(0, 1, 1024)
    light = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    return matrix_profile("Made like Display P3", DISPLAY_P3_TO_XYZ, np.rint(light * 65535).astype(int).tolist())


def matrix_profile(name: str, to_xyz: NDArray[np.float64], levels: list[int]) -> bytes:
    """A profile with a name, primaries and a curve (one level: its gamma, times 256)."""
    text = name.encode() + b"\x00"
    curve = b"curv" + struct.pack(f">4xI{len(levels)}H", len(levels), *levels)
    tags = {
        b"desc": b"desc" + struct.pack(">4xI", len(text)) + text + bytes(78),
        b"wtpt": _xyz(np.array(D50)),
        b"rXYZ": _xyz(to_xyz[:, 0]),
        b"gXYZ": _xyz(to_xyz[:, 1]),
        b"bXYZ": _xyz(to_xyz[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return profile_file(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """A profile of greys with a gamma."""
    curve = b"curv" + struct.pack(">4xIH", 1, round(gamma * 256))
    return profile_file(b"GRAY", {b"wtpt": _xyz(np.array(D50)), b"kTRC": curve})


def profile_file(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of the colour space `space` with these tags."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    illuminant = b"".join(struct.pack(">i", round(value * 65536)) for value in D50)
    return (header + illuminant).ljust(128, b"\x00") + table + body


def _xyz(values: NDArray[Any]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def srgb_levels(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of 0 to 1 as levels of 0 to 255 (IEC 61966-2-1)."""
    light = np.clip(linear, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
