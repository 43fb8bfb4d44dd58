"""Fetching a file over HTTP: resumed where the connection broke, within a size, from public addresses."""

from __future__ import annotations

import contextvars
import errno
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from lookbook.blocks.errors import LookbookError, TransientError
from lookbook.tasks.datasets.sources.downloading import Patience
from lookbook.tasks.tables.extract import http_answers as answers
from lookbook.tasks.tables.extract.addresses import PublicTransport

#: Seconds for a connection, and between two pieces of an answer.
TIMEOUT = 30.0
MAX_REDIRECTS = 5
_PIECE = 2**18

_fetching: contextvars.ContextVar[bool] = contextvars.ContextVar("fetching", default=False)


class _Unlogged(logging.Filter):
    """Holds back what httpx logs of our requests: whole addresses, with the secrets that their queries may hold."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        return not _fetching.get()


logging.getLogger("httpx").addFilter(_Unlogged())


@dataclass(frozen=True)
class Asked:
    """What is to be fetched.

    Attributes:
        url: the address, with credentials if it has any.
        max_bytes: a larger file is refused.
        allow_private: ask private addresses, too, and the proxy that the environment names.
        max_seconds: the fetch fails if all its tries together take longer.
    """

    url: httpx.URL
    max_bytes: int
    allow_private: bool
    max_seconds: float


@dataclass(frozen=True)
class Fetched:
    """A file that was fetched.

    Attributes:
        url: where it was, behind all redirects.
        media_type: its Content-Type.
        validators: by which to ask whether it changed.
    """

    url: httpx.URL
    media_type: str
    validators: dict[str, str]


def fetch(asked: Asked, path: Path, known: Mapping[str, str], patience: Patience | None = None) -> Fetched | None:
    """Write the file to `path`.

    Args:
        asked: which.
        path: of a new file.
        known: validators of what is known already; empty: nothing is.
        patience: with faults.

    Returns:
        None: it is still the one that is known.

    Raises:
        LookbookError: it is too large, takes too long, or the server refuses.
        OutOfReachError: the server, or the way to it, failed too often in a row.
    """
    download = _Download(asked, path, dict(known))
    faults, patience = 0, patience or Patience()
    with _client(asked) as client, download.time:
        while True:
            before = download.here
            try:
                fetched = download.go_on(client)
            except (TransientError, httpx.TransportError) as error:
                download.time.check(asked.url)
                if "location header" in str(error):  # what httpx says of a redirect that it cannot parse
                    raise _no_address(asked.url) from None
                faults = 1 if download.here > before else faults + 1
                patience.wait(_transient(error, asked.url), faults)
            else:
                download.time.check(asked.url)  # an answer without a length seems to end where it is cut off
                return fetched


def _transient(error: Exception, url: httpx.URL) -> TransientError:
    if isinstance(error, TransientError):
        return error
    return TransientError(f"{answers.shown(url)} does not answer ({type(error).__name__})")


@contextmanager
def _client(asked: Asked) -> Iterator[httpx.Client]:
    transport = None if asked.allow_private else PublicTransport()
    token = _fetching.set(True)
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT, follow_redirects=False) as client:
            yield client
    finally:
        _fetching.reset(token)


class _Time:
    """Ends what takes too long, also where a server sends a byte now and then: its connections are shut down."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._over = seconds, False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of a new connection: httpcore's extension ``trace``."""
        if event.endswith("connect_tcp.complete"):
            with self._lock:  # a second handle, which is the same connection behind TLS, too
                self._sockets.append(info["return_value"].get_extra_info("socket").dup())
            if self._over:
                self._end()

    def check(self, url: httpx.URL) -> None:
        """Raises LookbookError where the time is over."""
        if self._over:
            raise LookbookError(
                f"{answers.shown(url)} took longer than max_seconds ({self._seconds:g}).",
                "Raise it if you trust the server.",
            )

    def _end(self) -> None:
        self._over = True
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):  # it has ended already
                    each.shutdown(socket.SHUT_RDWR)


class _Download:
    def __init__(self, asked: Asked, path: Path, known: dict[str, str]) -> None:
        self._asked, self._path, self._known = asked, path, known
        self._validators: dict[str, str] = {}
        self.here = 0
        self.time = _Time(asked.max_seconds)

    def go_on(self, client: httpx.Client) -> Fetched | None:
        """Fetch the rest of the file, or all of it where the rest would not fit."""
        url = self._asked.url
        for _ in range(MAX_REDIRECTS + 1):
            with self._request(client, url) as response:
                if response.has_redirect_location:
                    url = _redirected(url, response)
                    continue
                if response.status_code == answers.NOT_MODIFIED and self._known:
                    return None
                return self._take(response, url)
        raise LookbookError(
            f"{answers.shown(self._asked.url)} redirects more than {MAX_REDIRECTS} times.", "Name the last address."
        )

    @contextmanager
    def _request(self, client: httpx.Client, url: httpx.URL) -> Iterator[httpx.Response]:
        bare = url.copy_with(userinfo=b"")
        auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
        told = {"trace": self.time.trace}
        with client.stream("GET", bare, headers=self._headers(), auth=auth, extensions=told) as response:
            yield response

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "lookbook"}
        if self.here and (validator := answers.strong(self._validators)):
            return headers | {"Range": f"bytes={self.here}-", "If-Range": validator}
        names = {"etag": "If-None-Match", "modified": "If-Modified-Since"}
        return headers | {names[name]: value for name, value in self._known.items() if name in names}

    def _take(self, response: httpx.Response, url: httpx.URL) -> Fetched:
        address = answers.shown(url)
        start = answers.start_of(response, self.here)
        if response.status_code == answers.BAD_RANGE or start is None:
            self.here, self._validators = 0, {}
            raise TransientError(f"{address} does not go on where it broke off")
        if not response.is_success:
            answers.refuse(response, address)
        if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip", "x-gzip"):
            raise LookbookError(f"{address} packs its answer in a way that was not asked for.", "Ask its owner.")
        self._check_size(answers.size_of(response, start), address)
        self.here, self._validators = start, answers.validators(response) or (self._validators if start else {})
        self._write(response, address)
        return Fetched(url, response.headers.get("Content-Type", ""), self._validators)

    def _write(self, response: httpx.Response, address: str) -> None:
        try:
            with self._path.open("r+b" if self.here else "wb") as file:
                file.seek(self.here)
                file.truncate()
                for piece in response.iter_raw(_PIECE):
                    self._check_size(self.here + len(piece), address)
                    file.write(piece)
                    self.here += len(piece)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise LookbookError(
                f"No space left in {self._path.parent} for {address}.",
                "Free some, or point LOOKBOOK_HOME to another disk.",
            ) from error

    def _check_size(self, size: int | None, address: str) -> None:
        if size is not None and size > self._asked.max_bytes:
            raise LookbookError(
                f"{address} has more than max_bytes ({self._asked.max_bytes}).", "Raise it if you trust the server."
            )


def _redirected(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    """Return where an answer points to. Credentials go along to the same server only."""
    try:
        target = url.join(response.headers["Location"])
    except httpx.InvalidURL:
        raise _no_address(url) from None
    if target.scheme not in ("http", "https") or not target.host:
        raise LookbookError(
            f"{answers.shown(url)} redirects to an address that is neither http nor https.", "Ask its owner."
        )
    same = (target.scheme, target.host, target.port) == (url.scheme, url.host, url.port)
    return target.copy_with(userinfo=url.userinfo if same else b"")


def _no_address(url: httpx.URL) -> LookbookError:
    return LookbookError(f"{answers.shown(url)} redirects to no address.", "Ask its owner.")
