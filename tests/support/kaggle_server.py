"""Kaggle on the loopback: its dataset API, and the storage that it sends downloads on to.

Facts: the calls, field names and errors of kagglesdk 0.1; page sizes of ``kaggle datasets files --help`` (20, at the
most 200); headers and answers of signed addresses of Google Cloud Storage's XML API.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from tests.support.loopback import LoopbackServer, Request, Response, Route, json_response

PAGE = 20
LARGEST_PAGE = 200
PIECE = 64 * 1024
#: Seconds that a signed address holds.
VALID = 300


@dataclass
class Dataset:
    """A dataset: the files of each version, from 1 on; and who may read it.

    Attributes:
        private: only with credentials.
        consent: nobody, before its terms are accepted in a browser.
        zipped: files that are sent as a zip when they are asked for alone.
        archive: replaces the zip of all files.
    """

    versions: list[Mapping[str, bytes]]
    private: bool = False
    consent: bool = False
    zipped: frozenset[str] = frozenset()
    archive: bytes | None = None


@dataclass
class KaggleServer:
    """The two servers, what they hold, and who may log in.

    Attributes:
        tokens: those that hold, for Bearer.
        keys: users with their keys, for Basic.
        headers: replaces headers of the storage; "" leaves one out.
        now: the clock of the signed addresses.
    """

    datasets: dict[str, Dataset] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"good-token"})
    keys: dict[str, str] = field(default_factory=lambda: {"ann": "good-key"})
    headers: dict[str, str] = field(default_factory=dict)
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        service = "/v1/datasets[.]DatasetApiService/"
        calls = {
            "ListDatasetFiles": (self._list_files, {"datasetVersionNumber", "pageToken", "pageSize"}),
            "GetDataset": (self._get, set()),
            "GetDatasetMetadata": (self._metadata, set()),
            "DownloadDataset": (self._download, {"datasetVersionNumber", "fileName", "raw", "hashLink"}),
        }
        routes = [
            Route(f"datasets.{name}", "POST", service + name, self._checked(answer, fields))
            for name, (answer, fields) in calls.items()
        ]
        self.api = LoopbackServer(routes)
        self.storage = LoopbackServer([Route("storage.get", "GET", "/kaggle-data-sets/(.+)", self._read)])
        self.asked: list[Request] = []

    def close(self) -> None:
        """Stop both."""
        self.api.close()
        self.storage.close()

    def environment(self) -> dict[str, str]:
        """What leads Kaggle's client here."""
        return {"KAGGLE_API_ENDPOINT": self.api.url}

    def ranges(self) -> list[str]:
        """The Range headers that the storage saw; "" where there was none."""
        return [each.headers.get("range", "") for each in self.asked]

    def _checked(self, answer: Callable[[Dataset, Any], Response], fields: set[str]) -> Callable[[Request], Response]:
        def checked(request: Request) -> Response:
            if "application/json" not in request.headers.get("content-type", ""):
                return _error(415, "Unsupported Media Type")
            asked = request.json()
            if set(asked) - fields - {"ownerSlug", "datasetSlug"} or not asked.get("ownerSlug"):
                return _error(400, "Invalid request")
            dataset = self.datasets.get(f"{asked['ownerSlug']}/{asked.get('datasetSlug')}")
            refused = self._refused(dataset, self._who(request.headers.get("authorization", "")))
            if refused or dataset is None:
                return refused or _error(404, "Dataset not found")
            version = asked.setdefault("datasetVersionNumber", len(dataset.versions))
            if not 1 <= version <= len(dataset.versions):
                return _error(404, "Dataset version not found")
            return answer(dataset, asked)

        return checked

    def _refused(self, dataset: Dataset | None, who: str | None) -> Response | None:
        if who is None:
            return _error(401, "Unauthenticated")
        if dataset and (dataset.consent or (dataset.private and not who)):
            return _error(403, "Permission 'datasets.get' was denied")
        return None

    def _who(self, authorization: str) -> str | None:
        """The user's name; "" for nobody, None where the credentials do not hold."""
        kind, _, value = authorization.partition(" ")
        if kind == "Bearer" and value in self.tokens:
            return "bearer"
        if kind == "Basic":
            user, _, key = base64.b64decode(value).decode().partition(":")
            return user if key and self.keys.get(user) == key else None
        return None if authorization else ""

    def _get(self, dataset: Dataset, asked: Any) -> Response:
        ref = f"{asked['ownerSlug']}/{asked['datasetSlug']}"
        return json_response({"id": 1, "ref": ref, "title": ref, "currentVersionNumber": len(dataset.versions)})

    def _metadata(self, _: Dataset, asked: Any) -> Response:
        return json_response({"info": {"datasetSlug": asked["datasetSlug"], "ownerUser": asked["ownerSlug"]}})

    def _list_files(self, dataset: Dataset, asked: Any) -> Response:
        size, start = asked.get("pageSize", PAGE), asked.get("pageToken") or "0"
        if not 1 <= size <= LARGEST_PAGE or not start.isdigit():
            return _error(400, "Invalid page")
        files = sorted(dataset.versions[asked["datasetVersionNumber"] - 1].items())
        page = files[int(start) : int(start) + size]
        more = {"nextPageToken": str(int(start) + size)} if int(start) + size < len(files) else {}
        return json_response({"datasetFiles": [{"name": name, "totalBytes": len(data)} for name, data in page]} | more)

    def _download(self, dataset: Dataset, asked: Any) -> Response:
        version, file = asked["datasetVersionNumber"], asked.get("fileName", "")
        if file and file not in dataset.versions[version - 1]:
            return _error(404, "File not found")
        key = f"{asked['ownerSlug']}/{asked['datasetSlug']}/{version}/{file or 'archive.zip'}"
        expires = int(self.now()) + VALID
        address = f"{self.storage.url}/kaggle-data-sets/{quote(key)}?Expires={expires}&{_signed(key, expires)}"
        return Response(302, headers={"Location": address})

    def _read(self, request: Request) -> Response:
        with self.storage.lock:
            self.asked.append(request)
        key, expires = request.parts[0], request.query.get("Expires", "0")
        if "authorization" in request.headers:
            return _xml(400, "InvalidArgument")
        if _signed(key, int(expires)) != f"Signature={request.query.get('Signature')}":
            return _xml(403, "SignatureDoesNotMatch")
        if int(expires) < self.now():
            return _xml(400, "ExpiredToken")
        return self._ranged(self._bytes(key), request)

    def _bytes(self, key: str) -> bytes:
        owner, name, version, file = key.split("/", 3)
        dataset = self.datasets[f"{owner}/{name}"]
        files = dataset.versions[int(version) - 1]
        if file not in files:
            return dataset.archive or zip_of(files)
        return zip_of({file: files[file]}) if file in dataset.zipped else files[file]

    def _ranged(self, data: bytes, request: Request) -> Response:
        md5 = hashlib.md5(data)  # noqa: S324 - as Google has it
        headers = {
            "Content-Type": "application/zip",
            "Accept-Ranges": "bytes",
            "ETag": f'"{md5.hexdigest()}"',
            "Last-Modified": formatdate(1_700_000_000, usegmt=True),
            "x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(md5.digest()).decode()}",
        } | self.headers
        asked, fresh = request.headers.get("range", ""), request.headers.get("if-range", headers["ETag"])
        start = 0
        if asked and fresh == headers["ETag"] and headers["Accept-Ranges"]:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return _xml(416, "InvalidRange", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Content-Length"] = str(len(data) - start)
        told = {name: value for name, value in headers.items() if value}
        return Response(206 if "Content-Range" in told else 200, _pieces(data[start:]), told)


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """A zip archive, the same bytes for the same files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    return sink.getvalue()


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _signed(key: str, expires: int) -> str:
    return f"Signature={hashlib.sha256(f'{key} {expires}'.encode()).hexdigest()}"


def _error(code: int, message: str) -> Response:
    return json_response({"code": code, "message": message}, code)


def _xml(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode()
    return Response(status, body, {"Content-Type": "application/xml"} | dict(headers or {}))


@contextmanager
def kaggle(**datasets: Dataset) -> Iterator[KaggleServer]:
    """A server with datasets of ann's, while the block runs."""
    server = KaggleServer({f"ann/{name}": dataset for name, dataset in datasets.items()})
    try:
        yield server
    finally:
        server.close()
