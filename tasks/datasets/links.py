"""Which image belongs to which catalogue row, by the names that both carry."""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args
from urllib.parse import unquote

from lookbook.tasks.datasets.sources.base import IMAGE_EXTENSIONS

#: How a row was matched, the surest first: the whole path as written; as many of its last parts as decide; a name
#: without extension; the product's name with more behind it; other capitals; `.jpeg` for `.jpg`.
Rule = Literal["exact", "tail", "stem", "suffix", "case", "ending"]
RULES: tuple[Rule, ...] = get_args(Rule)
#: They count only where nothing else leads to the file.
UNSURE = ("case", "ending")
#: One form of a path, in which names are compared.
Form = Callable[[str], str]
#: Candidates that are named with a row that is ambiguous.
NAMED = 5


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


@dataclass(frozen=True)
class Match:
    """What a row's names led to.

    Attributes:
        keys: of its images, best first; of the candidates, where it is ambiguous.
        rule: by which they were found.
        ambiguous: several different files fit equally well, so that none is taken.
        absent: names of a cell of several that led to nothing.
    """

    keys: Sequence[str] = ()
    rule: Rule | None = None
    ambiguous: bool = False
    absent: Sequence[str] = ()

    @property
    def candidates(self) -> str | None:
        """The files that fit an ambiguous row, as a person reads them."""
        if not self.ambiguous:
            return None
        more = len(self.keys) - NAMED
        return ", ".join(self.keys[:NAMED]) + (f" and {more} more" if more > 0 else "")


def normal_path(name: str) -> str:
    """Return a path in one form: composed letters (NFC), slashes, no blanks around a part, no ``.`` and ``..``."""
    parts: list[str] = []
    for part in map(str.strip, unicodedata.normalize("NFC", name).replace("\\", "/").split("/")):
        if part == "..":
            parts[-1:] = []
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def has_image_ending(name: str) -> bool:
    """Return whether a name ends as those of images do."""
    return posixpath.splitext(name.strip())[1].lower().removeprefix(".") in IMAGE_EXTENSIONS


def _decoded(path: str) -> str:
    """Return a path without what an address adds to it: percent-escapes, and a query behind an image's name."""
    before, mark, _ = path.partition("?")
    path = before if mark and has_image_ending(before) else path
    return normal_path(unquote(path)) if "%" in path else path


def _stemmed(path: str) -> str:
    """Return a path without its ending, nor what stands behind an image's: ``p.jpg.download``."""
    stem = posixpath.splitext(path)[0]
    return posixpath.splitext(stem)[0] if has_image_ending(stem) and not has_image_ending(path) else stem


def _one_jpeg(path: str) -> str:
    return re.sub(r"\.(jpeg|jpe|jfif)$", ".jpg", path.casefold())


def short_name(name: str) -> str:
    """Return the last part of a name without extension and capitals: what all names of one file have in common."""
    last = posixpath.basename(_decoded(normal_path(name)))
    return (_stemmed(last) if has_image_ending(last) else last).casefold()


@dataclass
class _Tails:
    """Paths, found by their last parts.

    Attributes:
        paths: each with what it stands for.
    """

    paths: Sequence[tuple[str, str]]
    _of_length: dict[int, dict[str, list[str]]] = field(default_factory=dict)

    def bearing(self, tail: str, length: int) -> list[str]:
        """Return what stands under a tail of so many parts; an index for each length is made when it is asked for."""
        if length not in self._of_length:
            index: dict[str, list[str]] = {}
            for path, key in self.paths:
                parts = path.rsplit("/", length)
                if len(parts) > length:
                    index.setdefault(path[len(parts[0]) + 1 :], []).append(key)
                elif len(parts) == length:
                    index.setdefault(path, []).append(key)
            self._of_length[length] = index
        return self._of_length[length].get(tail, [])


def _by(form: Form, keys: Iterable[str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for key in keys:
        index.setdefault(form(key), []).append(key)
    return index


def _slashed(name: str) -> str:
    return name.strip().replace("\\", "/")


def _resolved(name: str, catalogue_file: str) -> str:
    """Return the path that a name stands for: one that begins with a dot is seen from the catalogue's folder."""
    plain = _slashed(name)
    beside = posixpath.join(posixpath.dirname(catalogue_file), plain)
    return _decoded(normal_path(beside if plain.startswith(("./", "../")) else plain))


class ImageNames:
    """Image keys, looked up by the names that catalogue rows give.

    Args:
        keys: of all images of the source.
        contents: SHA-256 by key, of those that were read: files of one content are copies, and any will do.
        rows: all rows: a part of a name decides only where no other row gives it another meaning.
    """

    def __init__(
        self, keys: Iterable[str], contents: Mapping[str, str] | None = None, rows: Iterable[CatalogueName] = ()
    ) -> None:
        self._keys = sorted(keys, key=key_order)
        self._contents = contents or {}
        self._rows = list(rows)
        self._tails: dict[tuple[Form, bool], _Tails] = {}
        self._written: dict[Form, _Tails] = {}

    @cached_property
    def _whole(self) -> dict[str, list[str]]:
        return _by(normal_path, self._keys)

    @cached_property
    def _whole_decoded(self) -> dict[str, list[str]]:
        return _by(lambda key: _decoded(normal_path(key)), self._keys)

    def find(self, row: CatalogueName) -> Match:
        """Return a row's images.

        A file name is looked up from the catalogue's own folder, then from the source's, then by its last parts.
        Several names in one cell are taken one by one. Without one, or where it leads nowhere, its images are all that
        are named like the product.
        """
        if row.file_name and row.file_name.strip():
            found = self._named(row.file_name, row.catalogue_file)
            names = names_in(row.file_name) if not found.keys else []
            if len(names) > 1:
                found = _together(names, [self._named(name, row.catalogue_file) for name in names])
            if found.keys:
                return found
        found = self._by_parts(_decoded(normal_path(row.product_key)), stem=True)
        return replace(found, ambiguous=False)

    def _named(self, name: str, catalogue_file: str) -> Match:
        paths = [
            normal_path(each) for each in (posixpath.join(posixpath.dirname(catalogue_file), _slashed(name)), name)
        ]
        for keys in (*map(self._whole.get, paths), *(self._whole_decoded.get(_decoded(path)) for path in paths)):
            if keys:
                return self._match(keys, "exact")
        return self._by_parts(_resolved(name, catalogue_file), stem=not has_image_ending(_decoded(paths[1])))

    def _by_parts(self, path: str, *, stem: bool) -> Match:
        """Return what bears as many of the last parts of a path as decide, in the surest form that leads to any."""
        forms: tuple[tuple[Rule, Form], ...] = (("tail", str), ("case", str.casefold), ("ending", _one_jpeg))
        for rule, form in forms[:2] if stem else forms:
            parts = form(path).split("/")
            for length in range(len(parts), 0, -1):
                tail = "/".join(parts[-length:])
                keys = self._tails_in(form, stem=stem).bearing(tail, length)
                if not keys:
                    continue
                found = self._match(keys, "stem" if stem and rule == "tail" else rule)
                if length == len(parts):
                    return found
                # Its folder is not there: what bears the bare name elsewhere may be another product's.
                unsure = found.ambiguous and length == 1
                return Match() if unsure or not self._decides(form, tail, length) else found
        return Match()

    def _tails_in(self, form: Form, *, stem: bool) -> _Tails:
        if (form, stem) not in self._tails:
            paths = ((_decoded(normal_path(key)), key) for key in self._keys)
            self._tails[form, stem] = _Tails([(form(_stemmed(path) if stem else path), key) for path, key in paths])
        return self._tails[form, stem]

    def _decides(self, form: Form, tail: str, length: int) -> bool:
        """Return whether all rows whose names end so mean one and the same path."""
        if form not in self._written:
            rows = [(name, row.catalogue_file) for row in self._rows for name in names_in(row.file_name or "")]
            named = {form(_resolved(*row)) for row in rows}
            self._written[form] = _Tails([(path, path) for path in named])
        return len(self._written[form].bearing(tail, length)) <= 1

    def _match(self, keys: Sequence[str], rule: Rule) -> Match:
        different = {self._contents[key] for key in keys if key in self._contents}
        return Match(keys, rule, ambiguous=len(different) > 1)


def names_in(cell: str) -> list[str]:
    """Return the file names in one cell: a JSON list, or names between commas, semicolons or bars."""
    text = cell.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            listed = json.loads(text)
        except ValueError:
            listed = [part.strip().strip("'\"") for part in text[1:-1].split(",")]  # as Python prints one
        return [name for name in map(str, listed) if name]
    names = [name.strip() for name in re.split(r"[,;|]", text)]
    return names if all(map(has_image_ending, names)) else [text]


def _together(names: Sequence[str], found: Sequence[Match]) -> Match:
    """Return one match of several names: found by the least sure of their rules."""
    sure = [each for each in found if each.keys and not each.ambiguous]
    if not sure:
        return next((each for each in found if each.ambiguous), Match())
    absent = [name for name, each in zip(names, found, strict=True) if not each.keys or each.ambiguous]
    keys = list(dict.fromkeys(key for each in sure for key in each.keys))
    return Match(keys, max((each.rule for each in sure if each.rule), key=RULES.index), absent=absent)


def link(
    rows: Sequence[CatalogueName],
    keys: Collection[str],
    contents: Mapping[str, str] | None = None,
    *,
    suffixed: bool = False,
) -> tuple[list[Match], dict[str, str]]:
    """Return for each row its images; and for each image that has a row, its product key.

    Args:
        rows: of all catalogues.
        keys: of all images.
        contents: SHA-256 by key, of those that were read.
        suffixed: ``101_1.jpg`` and ``101-back.jpg`` are images of the product 101, too.
    """
    names = ImageNames(keys, contents, rows)
    found = _without_contested(rows, [names.find(row) for row in rows])
    if suffixed:
        found = _with_suffixed(rows, found, keys)
    products: dict[str, str] = {}
    for row, match in zip(rows, found, strict=True):
        for key in () if match.ambiguous else match.keys:
            products.setdefault(key, row.product_key)
    return found, products


def _with_suffixed(rows: Sequence[CatalogueName], found: list[Match], keys: Collection[str]) -> list[Match]:
    """Add the images that are named like a product, and more; to the one with the longest name that fits."""
    taken = {key for match in found for key in match.keys}
    products = {normal_path(row.product_key) for row in rows}
    further: dict[str, list[str]] = {}
    for key in sorted(set(keys) - taken, key=key_order):
        stem = _stemmed(posixpath.basename(_decoded(normal_path(key))))
        starts = (stem[: sign.start()] for sign in reversed(list(re.finditer("[_-]", stem))))
        product = next((start for start in starts if start in products), None)
        if product is not None:
            further.setdefault(product, []).append(key)
    return [
        match
        if match.ambiguous or not (more := further.get(normal_path(row.product_key)))
        else replace(match, keys=[*match.keys, *more], rule=match.rule or "suffix")
        for row, match in zip(rows, found, strict=True)
    ]


def _without_contested(rows: Sequence[CatalogueName], found: list[Match]) -> list[Match]:
    """Drop what other capitals or endings led to, where another name leads to the same file."""
    named = [row.file_name or row.product_key for row in rows]
    claims: dict[str, set[str]] = {key: set() for match in found if match.rule in UNSURE for key in match.keys}
    for name, match in zip(named, found, strict=True):
        for key in match.keys if claims else ():
            if key in claims:
                claims[key].add(name)
    return [
        Match() if match.rule in UNSURE and any(len(claims[key]) > 1 for key in match.keys) else match
        for match in found
    ]
