"""File names that people read, for the images of a snapshot."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lookbook.tasks.datasets.links import key_order

#: The folder of images that no catalogue row names.
ORPHANS = "orphans"
#: Bytes of a name, at the most; file systems take 255, with the extension.
LONGEST = 200
#: What some file system, shell or address takes for something else.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%#]|^\.|[. ]$')


@dataclass(frozen=True)
class ImageRow:
    """An image of a snapshot, not rejected: its key, its content, and the product that it shows, if any.

    Attributes:
        main: it is the one that the product's catalogue row was matched with.
    """

    key: str
    sha256: str
    product_key: str | None
    main: bool = False


@dataclass(frozen=True)
class NamedImage:
    """An image and the name of its file, without the extension."""

    name: str
    image: ImageRow


def names_by_hash(images: Iterable[ImageRow]) -> list[NamedImage]:
    """Return each content once, under its SHA-256, in folders by the first two digits."""
    first: dict[str, ImageRow] = {}
    for image in sorted(images, key=lambda image: key_order(image.key)):
        first.setdefault(image.sha256, image)
    return [NamedImage(f"{sha256[:2]}/{sha256}", image) for sha256, image in sorted(first.items())]


def names_by_id(images: Iterable[ImageRow]) -> list[NamedImage]:
    """Return each image of a product under the product's id.

    - The product's main image is ``<id>``, its further ones, in the order of `key_order`, ``<id>-2``, ``<id>-3`` …
    - The same content is named once for each product that shows it.
    - Content that no product shows is named once, in the folder `ORPHANS`, by its key without the extension.
    - An id that is no file name is escaped (`file_name`).
    - A name that is taken, also but for case, is numbered.
    """
    ordered = sorted(images, key=lambda image: (not image.main, *key_order(image.key)))
    products: dict[str, dict[str, ImageRow]] = {}
    for image in ordered:
        if image.product_key is not None:
            products.setdefault(image.product_key, {}).setdefault(image.sha256, image)
    contents = [list(of_product.values()) for _, of_product in sorted(products.items())]
    shown = {image.sha256 for of_product in contents for image in of_product}
    names = _Names()
    named = [NamedImage(names.take(file_name(str(first.product_key))), first) for first, *_ in contents]
    for _, *further in contents:
        for number, image in enumerate(further, 2):
            named.append(NamedImage(names.take(file_name(str(image.product_key)), number), image))
    for image in ordered:
        if image.sha256 not in shown:
            shown.add(image.sha256)
            named.append(NamedImage(names.take(_orphan(image.key)), image))
    return named


def file_name(text: str) -> str:
    """Return a file name for any text: unsafe characters as percent escapes, a long one cut and hashed."""
    text = text.encode("utf-8", "backslashreplace").decode()
    name = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text) or "%"
    data = name.encode()
    if len(data) <= LONGEST:
        return name
    return f"{data[: LONGEST - 17].decode(errors='ignore')}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _orphan(key: str) -> str:
    *folders, name = key.split("/")
    stem, dot, _ = name.rpartition(".")
    return "/".join(file_name(part) for part in (ORPHANS, *folders, stem if dot and stem else name))


class _Names:
    """The names that are taken. Two that differ in case or in how an accent is written meet on some file systems."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str, number: int = 1) -> str:
        """`name` with the number, or the next one that is free."""
        while True:
            candidate = name if number == 1 else f"{name}-{number}"
            seen = unicodedata.normalize("NFC", candidate).casefold()
            if seen not in self._taken:
                self._taken.add(seen)
                return candidate
            number += 1


def balanced(named: Sequence[NamedImage], images: Sequence[ImageRow]) -> bool:
    """Return whether each content has a name, and each product one for each of its contents."""
    pairs = {(image.product_key, image.sha256) for image in images if image.product_key is not None}
    found = {(each.image.product_key, each.image.sha256) for each in named}
    return pairs <= found and {image.sha256 for image in images} == {sha256 for _, sha256 in found}
