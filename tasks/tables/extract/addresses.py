"""Connections to public addresses only: a name is resolved once, and what is connected to is what was checked."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import TypeAlias

import httpx

from lookbook.blocks.errors import LookbookError, TransientError

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
