"""Batches of a stand-in for Google Cloud Storage: requests within a request, none of them for an object's bytes."""

from __future__ import annotations

import re
from http.client import responses
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.gcs_store import ApiError
from tests.support.loopback import Request, Response

if TYPE_CHECKING:
    from tests.support.gcs_server import GcsServer

#: https://cloud.google.com/storage/docs/batch
MOST_CALLS = 100
BOUNDARY = "batch_stand_in"


def answer(server: GcsServer, request: Request) -> Response:
    """Each part is a request of its own; the answers stand in the same order."""
    kind = re.match(r'multipart/mixed;\s*boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if kind is None:
        raise ApiError(400, "badRequest", "A batch is multipart/mixed.")
    parts = request.body.decode().replace("\r\n", "\n").split(f"--{kind[1]}")[1:-1]
    if len(parts) > MOST_CALLS:
        raise ApiError(
            400, "badRequest", f"The batch request has {len(parts)} calls; at most {MOST_CALLS} are allowed."
        )
    answers = [_framed(number, _inner(server, request, part)) for number, part in enumerate(parts)]
    body = "".join(f"--{BOUNDARY}\r\n{one}\r\n" for one in answers) + f"--{BOUNDARY}--\r\n"
    return Response(200, body.encode(), {"Content-Type": f"multipart/mixed; boundary={BOUNDARY}"})


def _inner(server: GcsServer, outer: Request, part: str) -> Response:
    _, _, text = part.lstrip("\n").partition("\n\n")
    head, _, body = text.partition("\n\n")
    line, *lines = head.split("\n")
    method, target, *_ = line.split(" ")
    told = dict(one.split(": ", 1) for one in lines if ": " in one)
    address = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
    headers = {"host": outer.headers["host"]} | {name.lower(): value for name, value in told.items()}
    for route in server.routes:
        matched = re.fullmatch(route.path, address.path) if re.fullmatch(route.method, method) else None
        if matched and route.name not in ("batch", "objects.insert", "objects.download"):
            server.calls[route.name] += 1
            groups = tuple(unquote(group or "") for group in matched.groups())
            return route.answer(Request(method, address.path, groups, query, headers, body.strip().encode()))
    return Response(404, b"{}")


def _framed(number: int, inner: Response) -> str:
    body = inner.body.decode() if isinstance(inner.body, bytes) else ""
    head = f"Content-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
    status = f"HTTP/1.1 {inner.status} {responses.get(inner.status, 'Unknown')}\r\n"
    return f"{head}{status}Content-Type: application/json; charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n{body}"
