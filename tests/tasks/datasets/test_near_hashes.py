"""The lookup against a comparison of each hash with each."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.tasks.datasets.near_duplicates import MOST_BITS, near_pairs

#: Hashes near a few centres: the centre, and the bits that are flipped.
NEAR = st.lists(
    st.tuples(st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), st.sets(st.integers(0, 63), max_size=9)),
    max_size=30,
).map(lambda made: np.array([centre ^ sum(1 << bit for bit in bits) for centre, bits in made], np.uint64))


def found(hashes: np.ndarray, window: int = 64, most: int = 10_000) -> list[tuple[int, int]]:
    pairs = near_pairs(hashes, window, most)
    return [pair for one, other in pairs for pair in zip(one.tolist(), other.tolist(), strict=True)]


def each_with_each(hashes: np.ndarray) -> set[tuple[int, int]]:
    values = [int(value) for value in hashes]
    return {
        (one, other)
        for one, other in itertools.combinations(range(len(values)), 2)
        if (values[one] ^ values[other]).bit_count() <= MOST_BITS
    }


@settings(deadline=None)
@given(NEAR)
def test_it_finds_the_pairs_that_a_comparison_of_each_with_each_finds(hashes: np.ndarray) -> None:
    pairs = found(hashes)
    assert set(pairs) == each_with_each(hashes)
    assert all(pairs.count(pair) <= 4 for pair in pairs), "more than once a band"


def test_every_place_of_the_differing_bits_is_covered() -> None:
    chance = np.random.default_rng(5)
    for bits in range(MOST_BITS + 2):
        for _ in range(50):
            flipped = sum(1 << int(bit) for bit in chance.choice(64, bits, replace=False))
            hashes = np.array([77, 77 ^ flipped], np.uint64)
            assert bool(found(hashes)) == (bits <= 7)


def test_a_crowd_costs_no_more_than_its_bound_and_keeps_its_neighbours() -> None:
    crowd = np.full(20_000, 42, np.uint64)
    pairs = found(crowd, window=5, most=3)
    assert 0 < len(pairs) <= 4 * 3 * len(crowd)
    assert set(found(crowd, window=1)) == {(row, row + 1) for row in range(len(crowd) - 1)}


def test_what_is_taken_up_of_a_crowd_is_the_same_each_time() -> None:
    chance = np.random.default_rng(4)
    hashes = np.uint64(1) << chance.integers(0, 64, 3000, np.uint64)
    assert found(hashes, 8, 4) == found(hashes, 8, 4)
    assert set(found(hashes, 8, 4)) <= each_with_each(hashes)


def test_none_and_one_hash_have_no_pairs() -> None:
    assert found(np.zeros(0, np.uint64)) == found(np.zeros(1, np.uint64)) == []
