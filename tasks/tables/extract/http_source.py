"""A file behind an address as a source: public addresses only, resumed where the connection broke, within a size."""

from __future__ import annotations

import contextvars
import hashlib
import ipaddress
import logging
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from lookbook.blocks.downloading import (
    BAD_RANGE,
    NOT_MODIFIED,
    PASSING,
    PartialFile,
    RemoteFile,
    Retries,
    WrongRangeError,
    describe,
    disk_faults,
    retry_after,
)
from lookbook.blocks.errors import LookbookError, TransientError
from lookbook.tasks.runs import progress
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.files import Reading, kind_of_media_type, kind_of_name, read_file
from lookbook.tasks.tables.extract.pieces import Notes, Piece, UnreadableError
from lookbook.tasks.tables.spec.tasks import HttpSource
from lookbook.tasks.tables.spec.values import render

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: IPv6 addresses of public translators: each ends with the IPv4 address that is meant (RFC 6052).
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
#: What `ipaddress` takes for public and is not: site-local addresses (RFC 3879), relays of 6to4 (RFC 7526), and
#: addresses for documentation (RFC 9637).
_SPECIAL = [ipaddress.ip_network(each) for each in ("fec0::/10", "192.88.99.0/24", "3fff::/20")]


def is_public(address: Address) -> bool:
    """Return whether this is a public address: none of a private network, of this machine, of a group."""
    return all(
        each.is_global
        and not (each.is_multicast or each.is_reserved)
        and not any(each in network for network in _SPECIAL)
        for each in _meant(address)
    )


def _meant(address: Address) -> Iterator[Address]:
    """Yield the address, and those that it stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None or address in _TRANSLATED:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, all of them public.

    Raises:
        LookbookError: one of them is not.
        TransientError: it has none, at the moment.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TransientError(f"{host}: its address cannot be found ({type(error).__name__})") from error
    except UnicodeError as error:
        raise LookbookError(f"{host!r} is no name of a host.", "Correct the address.") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not is_public(address):
            raise LookbookError(
                f"{host} has the address {address}, which is not public.",
                "If it is meant to be asked, say allow_private: true in the source.",
            )
    return list(dict.fromkeys(addresses))


class PublicTransport(httpx.BaseTransport):
    """Connects to the address that was checked, so that a name which resolves otherwise a moment later is no way in."""

    def __init__(self) -> None:
        self._transport = httpx.HTTPTransport()  # a client with a transport of its own asks no proxy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`. Host header and certificate stay those of the name."""
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        addresses = resolve(host, port)
        for number, address in enumerate(addresses, 1):
            try:
                return self._transport.handle_request(_to(request, address, host))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise TransientError(f"{host}: it has no address")

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()


def _to(request: httpx.Request, address: Address, host: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


def shown(url: httpx.URL) -> str:
    """Return an address without what may be secret in it: user, password, query."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def refuse(response: httpx.Response, address: str) -> None:
    """Raise what an answer means that brings no file.

    Raises:
        TransientError: it may pass.
        LookbookError: it does not.
    """
    status = response.status_code
    if status in PASSING:
        raise TransientError(f"{address} answers {status}", retry_after(response.headers))
    ways_out = {401: "It asks for a login.", 403: "It does not let us.", 404: "See that the address is right."}
    raise LookbookError(f"{address} answers {status}.", ways_out.get(status, "Open it in a browser to see why."))


def validators(response: httpx.Response) -> dict[str, str]:
    """Return what tells whether the file is the same next time."""
    named = {"etag": response.headers.get("ETag"), "modified": response.headers.get("Last-Modified")}
    return {name: value for name, value in named.items() if value}


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
class FetchRequest:
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


def fetch(asked: FetchRequest, path: Path, known: Mapping[str, str], retries: Retries | None = None) -> Fetched | None:
    """Write the file to `path`.

    Args:
        asked: which.
        path: of a new file.
        known: validators of what is known already; empty: nothing is.
        retries: with faults.

    Returns:
        None: it is still the one that is known.

    Raises:
        LookbookError: it is too large, takes too long, or the server refuses.
        OutOfReachError: the server, or the way to it, failed too often in a row.
    """
    with _client(asked) as client, _Time(asked.max_seconds) as time, disk_faults(path.parent, shown(asked.url)):
        request = _Request(asked, client, time, dict(known))
        try:
            PartialFile(path, shown(asked.url), request.opened, retries or Retries(), progress.download).complete()
        except _UnchangedError:
            return None
    return request.fetched


@contextmanager
def _client(asked: FetchRequest) -> Iterator[httpx.Client]:
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

    def __enter__(self) -> _Time:
        self._timer.start()
        return self

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
        """Raise LookbookError where the time is over."""
        if self._over:
            raise LookbookError(
                f"{shown(url)} took longer than max_seconds ({self._seconds:g}).",
                "Raise it if you trust the server.",
            )

    def _end(self) -> None:
        self._over = True
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):  # it has ended already
                    each.shutdown(socket.SHUT_RDWR)


class _UnchangedError(Exception):
    """The file is still the one that is known."""


class _Request:
    """Asks for the file, or for its rest; `fetched` is what the last answer brought."""

    fetched: Fetched

    def __init__(self, asked: FetchRequest, client: httpx.Client, time: _Time, known: dict[str, str]) -> None:
        self._asked, self._client, self._time, self._known = asked, client, time, known

    @contextmanager
    def opened(self, start: int, validator: str) -> Iterator[RemoteFile]:
        """See `lookbook.blocks.downloading.Opened`."""
        url, first = self._asked.url, shown(self._asked.url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with self._get(url, start, validator) as response:
                    if not response.has_redirect_location:
                        yield self._take(response, url, start)
                        self._time.check(url)  # an answer without a length seems to end where it is cut off
                        return
                    url = _redirected(url, response)
        except (TransientError, httpx.TransportError) as error:
            self._time.check(self._asked.url)
            if "location header" in str(error):  # what httpx says of a redirect that it cannot parse
                raise _no_address(self._asked.url) from None
            if isinstance(error, TransientError):
                raise
            raise TransientError(f"{first} does not answer ({type(error).__name__})") from None
        raise LookbookError(f"{first} redirects more than {MAX_REDIRECTS} times.", "Name the last address.")

    def _get(self, url: httpx.URL, start: int, validator: str) -> AbstractContextManager[httpx.Response]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "lookbook"}
        if validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        else:
            names = {"etag": "If-None-Match", "modified": "If-Modified-Since"}
            headers |= {names[name]: value for name, value in self._known.items() if name in names}
        bare = url.copy_with(userinfo=b"")
        auth = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
        return self._client.stream("GET", bare, headers=headers, auth=auth, extensions={"trace": self._time.trace})

    def _take(self, response: httpx.Response, url: httpx.URL, start: int) -> RemoteFile:
        address = shown(url)
        if response.status_code == NOT_MODIFIED and self._known:
            raise _UnchangedError
        if response.status_code == BAD_RANGE:
            raise WrongRangeError(f"{address} does not go on where it broke off")
        if not response.is_success:
            refuse(response, address)
        if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip", "x-gzip"):
            raise LookbookError(f"{address} packs its answer in a way that was not asked for.", "Ask its owner.")
        remote = describe(address, response.status_code, response.headers, response.iter_raw(_PIECE), start)
        self._check_size(remote.size or 0, address)
        known = validators(response) or (self.fetched.validators if remote.start else {})
        self.fetched = Fetched(url, response.headers.get("Content-Type", ""), known)
        return replace(remote, chunks=self._bounded(remote, address))

    def _bounded(self, remote: RemoteFile, address: str) -> Iterator[bytes]:
        size = remote.start
        for chunk in remote.chunks:
            size += len(chunk)
            self._check_size(size, address)
            yield chunk

    def _check_size(self, size: int, address: str) -> None:
        if size > self._asked.max_bytes:
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
        raise LookbookError(f"{shown(url)} redirects to an address that is neither http nor https.", "Ask its owner.")
    same = (target.scheme, target.host, target.port) == (url.scheme, url.host, url.port)
    return target.copy_with(userinfo=url.userinfo if same else b"")


def _no_address(url: httpx.URL) -> LookbookError:
    return LookbookError(f"{shown(url)} redirects to no address.", "Ask its owner.")


#: With faults of servers; tests have none.
RETRIES = Retries()


def read_http(
    context: Context, name: str, source: HttpSource, notes: Notes, *, skip_unchanged: bool
) -> Iterator[Piece]:
    """Yield the rows of a file behind an address.

    With `skip_unchanged` the server is asked first whether it changed since the last commit.
    """
    url = _url(render(source.url, context.logical_date, context.params))
    address = shown(url)
    notes.inputs.append(address)
    identity = hashlib.sha256(str(url).encode()).hexdigest()[:24]
    known = _known(context.states.get(name, {}), identity) if skip_unchanged else {}
    context.workspace.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.workspace.scratch, prefix="http-") as folder:
        path = Path(folder, "file")
        fetched = fetch(
            FetchRequest(url, source.max_bytes, source.allow_private, source.max_seconds), path, known, RETRIES
        )
        if fetched is None:
            notes.unchanged = True
            return
        if skip_unchanged:
            notes.state["http"] = fetched.validators | {"url": identity}
        reading = Reading(source.format, source.csv, context.workspace.scratch)
        try:
            yield from read_file(path, _name(url, fetched), address, reading)
        except UnreadableError as error:
            raise error.for_user(address) from error


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise LookbookError("url is no address.", "Write it as https://host/path.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise LookbookError(f"{shown(url)}: only http and https are asked.", "Write it as https://host/path.")
    return url


def _known(state: Mapping[str, Any], identity: str) -> dict[str, str]:
    """Return the validators of the last commit, if it was of this address and its content is known."""
    http = state.get("http") or {}
    if http.get("url") != identity or not state.get("digest"):
        return {}
    return {name: str(http[name]) for name in ("etag", "modified") if http.get(name)}


def _name(url: httpx.URL, fetched: Fetched) -> str:
    """Return a name that tells the format: of the address, of where it led to, or as the server says."""
    for path in (url.path, fetched.url.path):
        if kind_of_name(path.rpartition("/")[2]) is not None:
            return path.rpartition("/")[2]
    return f"file.{kind_of_media_type(fetched.media_type) or ''}"
