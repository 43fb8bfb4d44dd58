"""Which image belongs to which catalogue row, by the names that both carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


def key_order(key: str) -> tuple[int, str]:
    """Return the order in which copies are ranked: the shallowest first, then by name.

    Kaggle's archives hold everything twice, once more in a nested folder: the nested one is the copy.
    """
    return key.count("/"), key


def canonical_order(key: str, product_of: Mapping[str, str]) -> tuple[bool, int, str]:
    """Return the order in which one of several equal images is chosen: one that a catalogue row names first.

    Args:
        key: of an image.
        product_of: for each image that a row names, its product key.
    """
    return key not in product_of, *key_order(key)


@dataclass(frozen=True)
class CatalogueName:
    """How a catalogue row names its image: the row's product key, its file, and the image's file name if given."""

    product_key: str
    catalogue_file: str
    file_name: str | None


class ImageNames:
    """Image keys, looked up by whole path, by file name, and by the name without its extension."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys: set[str] = set()
        self.by_name: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}
        for key in sorted(keys, key=key_order):
            path = PurePosixPath(key)
            self.keys.add(key)
            self.by_name.setdefault(path.name, []).append(key)
            self.by_stem.setdefault(path.stem, []).append(key)

    def find(self, row: CatalogueName) -> list[str]:
        """Return the keys of a row's images, best first.

        A file name given by the catalogue is looked up from the catalogue's own folder, then anywhere; else
        the image is the one named like the product.
        """
        if row.file_name:
            beside = PurePosixPath(row.catalogue_file).parent / row.file_name
            for key in (beside.as_posix(), row.file_name):
                if key in self.keys:
                    return [key]
            found = self.by_name.get(PurePosixPath(row.file_name).name, [])
            if found:
                return found
        return self.by_stem.get(row.product_key, [])


def link(rows: Sequence[CatalogueName], keys: Iterable[str]) -> tuple[list[list[str]], dict[str, str]]:
    """Return for each row the keys of its images, best first; and for each image that has a row, its product key."""
    names = ImageNames(keys)
    found = [names.find(row) for row in rows]
    products: dict[str, str] = {}
    for row, images in zip(rows, found, strict=True):
        for key in images:
            products.setdefault(key, row.product_key)
    return found, products
