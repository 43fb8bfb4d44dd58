"""The corpora: drawn from fixed seeds, with the spectrum of natural scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.corpora import LARGE, natural_field, photo

LITTLE = replace(LARGE, width=120, height=90, fields=3)


def test_a_photo_is_the_same_for_the_same_number_and_another_for_the_next() -> None:
    assert photo(LITTLE, 4).tobytes() == photo(LITTLE, 4).tobytes()
    assert photo(LITTLE, 4).tobytes() != photo(LITTLE, 5).tobytes()
    assert photo(LITTLE, 4).size == (120, 90)


def test_amplitude_falls_as_one_over_frequency_below_the_lens() -> None:
    amplitude = np.abs(np.fft.fft2(natural_field(512, 512, seed=3)))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None])
    band = (frequency > 0.01) & (frequency < 0.06)
    slope = np.polyfit(np.log(frequency[band]), np.log(amplitude[band]), 1)[0]
    assert -1.15 < slope < -0.95
