"""Uploads to a stand-in for Google Cloud Storage: in one request, or resumable."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support.gcs_listing import only_fields
from tests.support.gcs_store import ApiError, Store, StoredObject
from tests.support.loopback import Request, Response, json_response

#: Every part of a resumable upload but the last is a multiple of this.
QUANTUM = 256 * 1024


@dataclass
class Session:
    """A resumable upload under way."""

    bucket: str
    name: str
    given: dict[str, Any]
    query: Mapping[str, str]
    data: bytearray = field(default_factory=bytearray)
    done: StoredObject | None = None


class Uploads:
    """Answers of ``/upload/storage/v1/b/BUCKET/o``.

    Attributes:
        keep_only: bytes of a part that are kept, where less arrives than was sent; used once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sessions: dict[str, Session] = {}
        self.keep_only: int | None = None
        self._numbers = itertools.count()

    def insert(self, request: Request) -> Response:
        kind = request.query.get("uploadType")
        if kind == "resumable":
            return self._begin(request)
        if kind == "multipart":
            given, data = parse_related(request)
        elif kind == "media":
            given, data = {"contentType": request.headers.get("content-type", "application/octet-stream")}, request.body
        else:
            raise ApiError(400, "invalid", f"Invalid upload type {kind}")
        name = str(given.get("name") or request.query.get("name", ""))
        made = self.store.write(request.parts[0], name, data, given, request.query)
        return self._made(made, request)

    def resume(self, request: Request) -> Response:
        """A part of an upload, or a question for how much has arrived: status 308 until it is whole."""
        with self.store.lock:
            session = self.sessions.get(request.query.get("upload_id", ""))
            if session is None:
                raise ApiError(410, "gone", "The upload session is not available.")
            asked = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("content-range", ""))
            if asked is None:
                raise ApiError(400, "invalid", "Failed to parse Content-Range header.")
            if session.done is None:
                self._take(session, request, asked)
            if session.done is not None:
                return self._made(session.done, request)
        so_far = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        return Response(308, b"", so_far)

    def cancel(self, request: Request) -> Response:
        self.sessions.pop(request.query.get("upload_id", ""), None)
        return Response(499)

    def _begin(self, request: Request) -> Response:
        given = {"contentType": request.headers.get("x-upload-content-type")} if not request.body else {}
        given |= request.json()
        name = str(given.get("name") or request.query.get("name", ""))
        bucket = request.parts[0]
        self.store.check_write(bucket, name, request.query)
        number = f"{next(self._numbers)}-{secrets.token_hex(8)}"
        self.sessions[number] = Session(bucket, name, given, request.query)
        place = f"http://{request.headers['host']}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        return Response(200, b"", {"Location": f"{place}?uploadType=resumable&upload_id={number}"})

    def _take(self, session: Session, request: Request, asked: re.Match[str]) -> None:
        first, last, total = asked.groups()
        if first is not None:
            whole = total != "*" and int(last) + 1 == int(total)
            if int(last) - int(first) + 1 != len(request.body):
                raise ApiError(400, "invalid", "Content-Range does not fit the body.")
            if int(first) > len(session.data):
                raise ApiError(400, "invalid", f"A gap: {len(session.data)} bytes have arrived.")
            if not whole and len(request.body) % QUANTUM:
                raise ApiError(400, "invalid", f"Parts are multiples of {QUANTUM} bytes.")
            kept, self.keep_only = self.keep_only, None
            session.data += request.body[len(session.data) - int(first) :][:kept]
        if total == "*" or len(session.data) < int(total):
            return
        told = dict(pair.split("=", 1) for pair in request.headers.get("x-goog-hash", "").split(",") if "=" in pair)
        checks = {"crc32c": told.get("crc32c"), "md5Hash": told.get("md5")}
        given = session.given | {name: value for name, value in checks.items() if value}
        session.done = self.store.write(session.bucket, session.name, bytes(session.data), given, session.query)
        session.data.clear()

    def _made(self, made: StoredObject, request: Request) -> Response:
        content = only_fields(made.resource(request.headers["host"]), request.query.get("fields"))
        return json_response(content)


def parse_related(request: Request) -> tuple[dict[str, Any], bytes]:
    """The two parts of a ``multipart/related`` body: metadata and bytes."""
    kind = re.fullmatch(r'multipart/related;\s*boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if kind is None:
        raise ApiError(400, "badContent", "Unsupported content with type: " + request.headers.get("content-type", ""))
    line = b"\r\n--" + kind[1].encode()
    body = b"\r\n" + request.body
    ends = body.rfind(line + b"--")
    middle = body.find(line + b"\r\n", len(line))
    if not body.startswith(line + b"\r\n") or ends < 0 or middle < 0:
        raise ApiError(400, "badContent", "Malformed multipart body.")
    told = body[len(line) : middle].partition(b"\r\n\r\n")[2]
    headers, _, data = body[middle + len(line) : ends].partition(b"\r\n\r\n")
    given = json.loads(told)
    sent = re.search(rb"content-type:\s*(\S+)", headers, re.IGNORECASE)
    return ({"contentType": sent[1].decode()} if sent else {}) | given, data
