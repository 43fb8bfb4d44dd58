"""Pictures and colour profiles that tests make for themselves."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Red, green and blue of Adobe RGB (1998), adapted to D50: the columns to CIE XYZ.
ADOBE_RGB_TO_XYZ = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
ADOBE_GAMMA = 563 / 256


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
    white = np.array([0.9642, 1.0, 0.8249])
    name = b"Made like Adobe RGB\x00"
    curve = b"curv" + struct.pack(">4xIH", 1, round(ADOBE_GAMMA * 256))
    tags = {
        b"desc": b"desc" + struct.pack(">4xI", len(name)) + name + bytes(78),
        b"wtpt": _xyz(white),
        b"rXYZ": _xyz(ADOBE_RGB_TO_XYZ[:, 0]),
        b"gXYZ": _xyz(ADOBE_RGB_TO_XYZ[:, 1]),
        b"bXYZ": _xyz(ADOBE_RGB_TO_XYZ[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    illuminant = b"".join(struct.pack(">i", round(value * 65536)) for value in white)
    return (header + illuminant).ljust(128, b"\x00") + table + body


def _xyz(values: NDArray[Any]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
