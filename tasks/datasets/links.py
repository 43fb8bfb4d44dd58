"""Which image belongs to which catalogue row, by the names that both carry."""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Literal, get_args
from urllib.parse import unquote

from lookbook.tasks.datasets.sources.base import IMAGE_EXTENSIONS

#: How a row was matched, the surest first: the whole path as written; as many of its last parts as decide; a name
#: without extension; the product's name with more behind it; other capitals; `.jpeg` for `.jpg`.
Rule = Literal["exact", "tail", "stem", "suffix", "case", "ending"]
RULES: tuple[Rule, ...] = get_args(Rule)
#: One form of a path, in which names are compared.
Form = Callable[[str], str]
#: Candidates that are named with a row that is ambiguous.
NAMED = 5
#: Characters of a name, at the most: beyond it stands a picture itself, or a text.
LONGEST_NAME = 4096


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


@dataclass(frozen=True, slots=True)
class CatalogueName:
    """How a catalogue row names its image: the row's product key, its file, and the image's file name if given."""

    product_key: str
    catalogue_file: str
    file_name: str | None


@dataclass(frozen=True, slots=True)
class Match:
    """What a row's names led to.

    Attributes:
        keys: of its images, best first; of the candidates, where it is ambiguous.
        rule: by which they were found.
        ambiguous: several different files fit equally well, so that none is taken.
        absent: names of a cell of several that led to nothing.
        torn: names of a cell of several that several different files fit equally well, with these.
    """

    keys: Sequence[str] = ()
    rule: Rule | None = None
    ambiguous: bool = False
    absent: Sequence[str] = ()
    torn: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def candidates(self) -> str | None:
        """Return the files that fit an ambiguous row or name, as a person reads them."""
        keys = self.keys if self.ambiguous else list(dict.fromkeys(chain.from_iterable(self.torn.values())))
        more = len(keys) - NAMED
        return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "") if keys else None


def normal_path(name: str) -> str:
    """Return a path in one form: composed letters (NFC), slashes, no blanks around a part, no ``.`` and ``..``."""
    parts: list[str] = []
    for part in map(str.strip, unicodedata.normalize("NFC", name).replace("\\", "/").split("/")):
        if part == "..":
            parts[-1:] = []
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


_IMAGE_ENDING = rf"\.({'|'.join(sorted(IMAGE_EXTENSIONS))})"
#: What is cut off a name: an image's ending and all that stands behind it (``.jpg.download``, ``.jpg_large``), or any
#: other ending that is a word. ``1.10`` has none.
_CUT = re.compile(rf"(?P<stem>.*?[^/])(?:{_IMAGE_ENDING}(?:[^a-z0-9/][^/]*)?|\.[a-z][a-z0-9]{{1,9}})", re.IGNORECASE)


def has_image_ending(name: str) -> bool:
    """Return whether a name ends as those of images do."""
    return posixpath.splitext(name.strip())[1].lower().removeprefix(".") in IMAGE_EXTENSIONS


def _decoded(path: str) -> str:
    """Return a path without what an address adds to it: percent-escapes, and a query behind an image's name."""
    before, mark, _ = path.partition("?")
    path = before if mark and has_image_ending(before) else path
    try:
        return normal_path(unquote(path, errors="strict")) if "%" in path else path
    except UnicodeDecodeError:  # it is no UTF-8 that is escaped
        return path


def stem_of(path: str) -> str:
    """Return a path without its ending."""
    found = _CUT.fullmatch(path)
    return found["stem"] if found else path


def _one_jpeg(path: str) -> str:
    return re.sub(r"\.(jpeg|jpe|jfif)$", ".jpg", path.lower())


def short_name(name: str) -> str:
    """Return the last part of a name without extension and capitals: what all names of one file have in common."""
    return stem_of(posixpath.basename(_decoded(normal_path(name)))).lower()


def names_in(cell: str) -> list[str]:
    """Return the file names in one cell: a JSON list, or names between commas, semicolons or bars."""
    text = cell.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = [part.strip().strip("'\"") for part in text[1:-1].split(",")]  # as Python prints one
        return [name for name in listed if isinstance(name, str) and name.strip()]
    names = [name.strip() for name in re.split(r"[,;|]", text) if name.strip()]
    return names if all(has_image_ending(_decoded(name)) for name in names) else [text]


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


@dataclass(frozen=True, slots=True)
class _Found:
    """Where one name of a row leads.

    Attributes:
        name: the path that it stands for, query and all; of a product's key, that.
        keys: of the files; of the candidates, where it is ambiguous.
        rule: by which they were found.
        sureness: of two names that lead to one file, the lower one's owner keeps it.
        ambiguous: several different files fit equally well.
    """

    name: str
    keys: Sequence[str] = ()
    rule: Rule | None = None
    sureness: int = 0
    ambiguous: bool = False


def _by(form: Form, keys: Iterable[str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for key in keys:
        index.setdefault(form(key), []).append(key)
    return index


class ImageNames:
    """Image keys, looked up by the names that catalogue rows give.

    Args:
        keys: of all images of the source.
        contents: SHA-256 by key, of those that were read: files of one content are copies, and any will do.
        folders: that rows name right before the base name: a file in one of them is that folder's.
    """

    def __init__(self, keys: Iterable[str], contents: Mapping[str, str], folders: Collection[str]) -> None:
        self._keys = sorted(keys, key=key_order)
        self._contents = contents
        self._folders = folders
        self._deepest = max((key.count("/") + 1 for key in self._keys), default=0)
        self._tails: dict[tuple[Form, bool], _Tails] = {}
        self._seen: dict[tuple[str, bool], _Found] = {}

    @cached_property
    def _whole(self) -> dict[str, list[str]]:
        return _by(normal_path, self._keys)

    @cached_property
    def _whole_decoded(self) -> dict[str, list[str]]:
        return _by(lambda key: _decoded(normal_path(key)), self._keys)

    def named(self, name: str, catalogue_file: str) -> _Found:
        """Return where a file name leads, from the catalogue's own folder, from the source's, or by its last parts."""
        beside = normal_path(posixpath.join(posixpath.dirname(catalogue_file), _slashed(name)))
        plain = normal_path(name)
        if len(name) > LONGEST_NAME or not plain:
            return _Found(beside)
        for sureness, index, form in ((0, self._whole, str), (1, self._whole_decoded, _decoded)):
            for path in (beside, plain):
                if keys := index.get(form(path)):
                    return replace(self._found(beside, keys, "exact"), sureness=sureness)
        path = beside if _slashed(name).startswith(("./", "../")) else plain
        return replace(self._once(path, whole=False), name=beside)

    def of_product(self, product_key: str, catalogue_file: str) -> _Found:
        """Return the images that are named like a product; those below the catalogue's own folder, if there are any."""
        path = normal_path(product_key)
        if len(product_key) > LONGEST_NAME or not path:
            return _Found(product_key)
        found = self._once(path, whole=True)
        folder = posixpath.dirname(catalogue_file)
        below = [key for key in found.keys if key.startswith(f"{folder}/")] if folder else []
        return replace(found, name=product_key, keys=below or found.keys, ambiguous=False, sureness=10 + found.sureness)

    def _once(self, path: str, *, whole: bool) -> _Found:
        """Return what `_by_parts` does; a name that many files bear is looked up once, however many rows give it."""
        found = self._seen.get((path, whole)) or self._by_parts(path, whole=whole)
        if len(found.keys) > NAMED:
            self._seen[path, whole] = found
        return found

    def _by_parts(self, path: str, *, whole: bool) -> _Found:
        """Return what bears as many of the last parts of a path as decide, in the surest form that leads to any.

        Args:
            path: in normal form.
            whole: all parts have to be there, but for the file's ending: of a product's key.
        """
        plain = _decoded(path)
        spellings = [path] if path == plain else [path, plain]
        forms: list[tuple[Rule, Form, bool]] = [("stem", str, True)] if not has_image_ending(plain) else []
        if not whole:
            forms.insert(0, ("tail", str, False))
        forms += [("case", str.lower, rule == "stem") for rule, _, _ in forms]
        forms += [("ending", _one_jpeg, False)] if not whole else []
        for sureness, (rule, form, stem) in enumerate(forms, 2):
            for spelling in spellings:
                parts = form(spelling).split("/")
                longest = min(len(parts), self._deepest)
                for length in range(longest, len(parts) - 1 if whole else 0, -1):
                    keys = self._tails_in(form, stem=stem).bearing("/".join(parts[-length:]), length)
                    if not keys:
                        continue
                    found = replace(self._found(path, keys, rule), sureness=sureness)
                    if length == len(parts) or not self._is_elsewhere(found, length):
                        return found
                    return _Found(path)
        return _Found(path)

    def _is_elsewhere(self, found: _Found, length: int) -> bool:
        """Return whether the folder that a row names is not there, and what bears the rest may be another product's."""
        if length > 1:
            return False
        return found.ambiguous or posixpath.basename(posixpath.dirname(found.keys[0])) in self._folders

    def _tails_in(self, form: Form, *, stem: bool) -> _Tails:
        if (form, stem) not in self._tails:
            cut = stem_of if stem else str
            plain = [(normal_path(key), key) for key in self._keys]
            decoded = [(path, key) for written, key in plain if (path := _decoded(written)) != written]
            self._tails[form, stem] = _Tails([(form(cut(path)), key) for path, key in [*plain, *decoded]])
        return self._tails[form, stem]

    def _found(self, name: str, keys: Sequence[str], rule: Rule) -> _Found:
        keys = list(dict.fromkeys(keys))
        different = {self._contents.get(key, "") for key in keys} - {""}
        return _Found(name, keys, rule, ambiguous=len(different) > 1)


def _slashed(name: str) -> str:
    return name.strip().replace("\\", "/")


def _names_of(row: CatalogueName, names: ImageNames) -> list[_Found]:
    """Return where the names of a row lead; where none leads anywhere, its images are named like its product."""
    cell = row.file_name or ""
    found: list[_Found] = []
    if cell.strip():
        whole = names.named(cell, row.catalogue_file)
        parts = names_in(cell)
        split = parts != [cell.strip()] and whole.rule != "exact"
        found = [names.named(name, row.catalogue_file) for name in parts] if split else [whole]
    if any(each.keys for each in found):
        return found
    key = row.product_key
    product = names.named(key, row.catalogue_file) if has_image_ending(key) else _Found(key)
    if not product.keys:
        product = names.of_product(key, row.catalogue_file)
    return [product] if product.keys else found


def _without_contested(rows: Sequence[CatalogueName], found: list[list[_Found]]) -> list[list[_Found]]:
    """Leave each file to the surest of the names that lead to it.

    Where several names of different products are equally sure, and none is the file's own path, it is nobody's.
    """
    best: dict[str, tuple[int, str | None, str | None]] = {}  # sureness; the name and the product, None for several
    for row, ways in zip(rows, found, strict=True):
        for way in ways:
            for key in () if way.ambiguous else way.keys:
                sureness, name, product = best.get(key, (way.sureness + 1, None, None))
                if way.sureness < sureness:
                    best[key] = way.sureness, way.name, row.product_key
                elif way.sureness == sureness and (name, product) != (way.name, row.product_key):
                    one_name, one_product = name == way.name, product == row.product_key
                    best[key] = sureness, name if one_name else None, product if one_product else None

    def keeps(row: CatalogueName, way: _Found, key: str) -> bool:
        sureness, name, product = best[key]
        if way.sureness == 0 or product == row.product_key:
            return True
        return way.sureness == sureness and name is not None

    def kept(row: CatalogueName, way: _Found) -> _Found:
        if way.ambiguous or all(keeps(row, way, key) for key in way.keys):
            return way
        return replace(way, keys=[key for key in way.keys if keeps(row, way, key)])

    return [[kept(row, way) for way in ways] for row, ways in zip(rows, found, strict=True)]


def _match(ways: Sequence[_Found]) -> Match:
    """Return one match of the names of a row: found by the least sure of their rules."""
    sure = [way for way in ways if way.keys and not way.ambiguous]
    torn = {way.name: way.keys for way in ways if way.ambiguous}
    if not sure:
        candidates = list(dict.fromkeys(chain.from_iterable(torn.values())))
        return Match(candidates, next(way.rule for way in ways if way.ambiguous), ambiguous=True) if torn else Match()
    absent = tuple(way.name for way in ways if not way.keys)
    keys = list(dict.fromkeys(key for way in sure for key in way.keys))
    return Match(keys, max((way.rule for way in sure if way.rule), key=RULES.index), absent=absent, torn=torn)


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
        contents: SHA-256 by key, of those that were read; a key of its own for one that could not be.
        suffixed: ``101_1.jpg`` and ``101-back.jpg`` are images of the product 101, too.
    """
    folders = {
        posixpath.basename(posixpath.dirname(normal_path(name)))
        for row in rows
        for name in names_in(row.file_name or "")
    } - {""}
    names = ImageNames(keys, contents or {}, folders)
    found = [_match(ways) for ways in _without_contested(rows, [_names_of(row, names) for row in rows])]
    if suffixed:
        found = _with_suffixed(rows, found, keys)
    products: dict[str, str] = {}
    for row, match in zip(rows, found, strict=True):
        for key in () if match.ambiguous else match.keys:
            products.setdefault(key, row.product_key)
    return found, products


def _with_suffixed(rows: Sequence[CatalogueName], found: list[Match], keys: Collection[str]) -> list[Match]:
    """Add the images that are named like a product, and more; to the one with the longest name that fits."""
    taken = {key for match in found if not match.ambiguous for key in match.keys}
    products = {normal_path(row.product_key) for row in rows}
    further: dict[str, list[str]] = {}
    for key in sorted(set(keys) - taken, key=key_order):
        stem = stem_of(posixpath.basename(_decoded(normal_path(key))))
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
