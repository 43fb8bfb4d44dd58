"""The page: its own few files, read once; no other file of this machine can be asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter, Request, Response

from lookbook.deployments.api.objects import is_known
from lookbook.deployments.api.problems import Problem

router = APIRouter(include_in_schema=False)

INDEX = "index.html"
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: dict[str, str]


def _read() -> dict[str, _File]:
    """Return all files of the page, by their names."""
    found = {}
    for file in resources.files("lookbook.deployments.page").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            headers = {"Content-Type": f"{kind}; charset=utf-8", "ETag": etag, "Cache-Control": "no-cache"}
            found[file.name] = _File(content, headers)
    return found


FILES = _read()


@router.get("/")
async def show_page(request: Request) -> Response:
    """Send the page itself; what it shows stands behind the #, which no server sees."""
    return _answer(request, INDEX)


@router.get("/static/{name}")
async def show_file(request: Request, name: str) -> Response:
    """Send the styles and scripts of the page."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file = FILES.get(name)
    if file is None:
        raise Problem(404, "not-found", "There is no such file of the page.", "The page is /, the API /api/v1/docs.")
    if is_known(request.headers, file.headers["ETag"]):
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)
