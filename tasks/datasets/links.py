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

import pyarrow as pa

from lookbook.tasks.datasets.desk import Desk
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


@dataclass(frozen=True, slots=True)
class CatalogueName:
    """How a catalogue row names its image: the row's product key, its file, and the image's file name if given."""

    product_key: str
    catalogue_file: str
    file_name: str | None


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


#: Rows whose names are looked up at once, with the files that any of them may lead to.
ROWS_AT_ONCE = 20_000

WAYS_SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64()),  # of the row
        pa.field("way", pa.int32()),  # of the row's names, which one
        pa.field("name", pa.string()),
        pa.field("rule", pa.int8()),  # its place in `RULES`; null where it leads nowhere
        pa.field("sureness", pa.int32()),
    ]
)
CLAIMS_SCHEMA = pa.schema([*WAYS_SCHEMA, pa.field("place", pa.int64()), pa.field("key", pa.string())])
TORN_SCHEMA = pa.schema(
    [pa.field("n", pa.int64()), pa.field("torn", pa.list_(pa.string())), pa.field("candidates", pa.string())]
)
PRODUCTS_SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("product", pa.string())])
FOLDERS_SCHEMA = pa.schema([pa.field("folder", pa.string())])


def link(desk: Desk, *, suffixed: bool) -> None:
    """Find the images of each catalogue row, and the row of each image.

    It reads ``rows`` (with the columns ``n``, ``product_key``, ``file``, ``file_name``), ``files`` as the plan has
    them, and ``content_of`` (SHA-256 by ``key``, of images that were read; one that could not be has its own key). It
    makes the tables ``row_images`` (``n``, ``place`` from 1 and ``key``: the best first), ``matches`` (for each ``n``
    its least sure ``rule``, the names of a cell of several that led to nothing (``absent``) or that several different
    files fit equally well (``torn``), these files as a person reads them (``candidates``), and whether the row is
    ``ambiguous``: it has none but such names), and ``linked`` (``key`` and ``product_key`` of the first row).

    Args:
        desk: of the run.
        suffixed: ``101_1.jpg`` and ``101-back.jpg`` are images of the product 101, too.
    """
    tables = {"ways": WAYS_SCHEMA, "claims": CLAIMS_SCHEMA, "torn_rows": TORN_SCHEMA, "folders": FOLDERS_SCHEMA}
    for name, schema in tables.items():
        desk.make(name, schema)
    for rows in desk.stream("SELECT file_name FROM rows WHERE contains(file_name, '/') OR contains(file_name, '\\')"):
        cells = set(rows.column("file_name").to_pylist())
        folders = {
            posixpath.basename(posixpath.dirname(normal_path(name))) for cell in cells for name in names_in(cell)
        }
        desk.add("folders", pa.table([sorted(folders - {""})], FOLDERS_SCHEMA))
    for rows in desk.stream("SELECT n, product_key, file, file_name FROM rows ORDER BY n", rows=ROWS_AT_ONCE):
        numbers = rows.column("n").to_pylist()
        values = (rows.column(name).to_pylist() for name in ("product_key", "file", "file_name"))
        _look_up(desk, numbers, [CatalogueName(*each) for each in zip(*values, strict=True)])
    _settle_contests(desk)
    if suffixed:
        _add_suffixed(desk)
    desk.run(
        "CREATE OR REPLACE TABLE linked AS SELECT key, arg_min(product_key, n) AS product_key"
        " FROM row_images JOIN rows USING (n) GROUP BY key"
    )


def _look_up(desk: Desk, numbers: Sequence[int], rows: Sequence[CatalogueName]) -> None:
    """Note where the names of some rows lead."""
    names = _possible_images(desk, rows)
    ways, claims, torn = [], [], []
    for n, row in zip(numbers, rows, strict=True):
        found = _names_of(row, names)
        unsure = {way.name: way.keys for way in found if way.ambiguous}
        if unsure:
            torn.append((n, list(unsure), _told(list(dict.fromkeys(chain.from_iterable(unsure.values()))))))
        for at, way in enumerate(found):
            if not way.ambiguous:
                noted = (n, at, way.name, RULES.index(way.rule) if way.rule else None, way.sureness)
                ways.append(noted)
                claims += [(*noted, place, key) for place, key in enumerate(way.keys)]
    for name, noted_rows, schema in (
        ("ways", ways, WAYS_SCHEMA),
        ("claims", claims, CLAIMS_SCHEMA),
        ("torn_rows", torn, TORN_SCHEMA),
    ):
        if noted_rows:
            desk.add(name, pa.table(list(map(list, zip(*noted_rows, strict=True))), schema))


def _told(keys: Sequence[str]) -> str:
    """Return files that fit equally well, as a person reads them."""
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _possible_images(desk: Desk, rows: Sequence[CatalogueName]) -> ImageNames:
    """Return the images that any name of some rows may lead to.

    A file is found by the last part of its name, in any form, without its ending; a name's last part may be that
    with an ending or without.
    """
    last = set()
    for row in rows:
        cell = row.file_name or ""
        for name in {cell, *names_in(cell), row.product_key} if cell.strip() else {row.product_key}:
            if len(name) <= LONGEST_NAME:
                last |= {short_name(name), posixpath.basename(_decoded(normal_path(name))).lower()}
    found = desk.rows(
        "SELECT key, content FROM (SELECT key FROM files SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS name) USING (name)"
        " WHERE is_image) LEFT JOIN content_of USING (key)",
        list(last),
    )
    parents = {posixpath.basename(posixpath.dirname(key)) for key, _ in found}
    folders = desk.rows(
        "SELECT DISTINCT folder FROM folders SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS folder) USING (folder)",
        list(parents),
    )
    contents = {key: content for key, content in found if content is not None}
    return ImageNames([key for key, _ in found], contents, {folder for (folder,) in folders})


def _settle_contests(desk: Desk) -> None:
    """Leave each file to the surest of the names that lead to it, and tell what each row has then.

    Where several names of different products are equally sure, and none is the file's own path, it is nobody's.
    """
    desk.run(
        "CREATE OR REPLACE TABLE best AS SELECT key, sureness, count(DISTINCT name) AS names,"
        " count(DISTINCT product_key) AS products, any_value(product_key) AS product_key FROM claims"
        " JOIN (SELECT key, min(sureness) AS sureness FROM claims GROUP BY key HAVING count(*) > 1)"
        " USING (key, sureness) JOIN rows USING (n) GROUP BY key, sureness"
    )
    desk.run(
        "CREATE OR REPLACE TABLE kept AS SELECT n, way, place, key FROM claims JOIN rows USING (n)"
        " LEFT JOIN best USING (key) WHERE best.key IS NULL OR claims.sureness = 0"
        " OR (products = 1 AND best.product_key = rows.product_key)"
        " OR (claims.sureness = best.sureness AND names = 1)"
    )
    desk.run(
        "CREATE OR REPLACE TABLE row_images AS SELECT n, row_number() OVER (PARTITION BY n ORDER BY first) AS place,"
        " key FROM (SELECT n, key, min({way: way, place: place}) AS first FROM kept GROUP BY n, key)"
    )
    desk.run(
        "CREATE OR REPLACE TABLE matches AS SELECT n, rule, coalesce(absent, []) AS absent, coalesce(torn, []) AS torn,"
        " candidates, rule IS NULL AND torn_rows.n IS NOT NULL AS ambiguous"
        " FROM rows LEFT JOIN (SELECT n, max(rule) FILTER (leads) AS rule,"
        "  list(name ORDER BY way) FILTER (NOT leads AND any_leads) AS absent FROM (SELECT n, way, name, rule,"
        "   leads IS NOT NULL AS leads, count(leads) OVER (PARTITION BY n) > 0 AS any_leads FROM ways"
        "   LEFT JOIN (SELECT DISTINCT n, way, true AS leads FROM kept) USING (n, way)) GROUP BY n) USING (n)"
        " LEFT JOIN torn_rows USING (n)"
    )


def _add_suffixed(desk: Desk) -> None:
    """Add the images that are named like a product, and more; to the one with the longest name that fits."""
    desk.make("named", PRODUCTS_SCHEMA)
    for rows in desk.stream("SELECT n, product_key FROM rows"):
        products = [normal_path(key) for key in rows.column("product_key").to_pylist()]
        desk.add("named", pa.table([rows.column("n"), products], PRODUCTS_SCHEMA))
    starts_schema = pa.schema([("key", pa.string()), ("product", pa.string()), ("length", pa.int32())])
    desk.make("starts", starts_schema)
    for rows in desk.stream("SELECT key FROM files ANTI JOIN row_images USING (key) WHERE is_image"):
        starts = []
        for key in rows.column("key").to_pylist():
            stem = stem_of(posixpath.basename(_decoded(normal_path(key))))
            starts += [(key, stem[: sign.start()], sign.start()) for sign in re.finditer("[_-]", stem)]
        if starts:
            desk.add("starts", pa.table(list(map(list, zip(*starts, strict=True))), starts_schema))
    desk.run(
        "CREATE OR REPLACE TABLE further AS SELECT n, key FROM (SELECT key, arg_max(product, length) AS product"
        " FROM starts SEMI JOIN named USING (product) GROUP BY key) JOIN named USING (product)"
        " JOIN (SELECT n FROM matches WHERE NOT ambiguous) USING (n)"
    )
    desk.run(
        "INSERT INTO row_images SELECT n,"
        " coalesce(had, 0) + row_number() OVER (PARTITION BY n ORDER BY depth(key), key), key"
        " FROM further LEFT JOIN (SELECT n, count(*) AS had FROM row_images GROUP BY n) USING (n)"
    )
    desk.run("UPDATE matches SET rule = ? WHERE rule IS NULL AND n IN (SELECT n FROM further)", RULES.index("suffix"))
