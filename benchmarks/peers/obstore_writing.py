"""obstore, the client in Rust, over the XML API: ``URL COUNT``. It creates what is not there, by no checksum."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import obstore
from obstore.store import GCSStore

from benchmarks.peers.objects import BUCKET, THREADS, Write, report


def writer(url: str) -> Write:
    """From a pool of threads."""
    store = GCSStore(BUCKET, base_url=url, bearer_token="nobody", client_options={"allow_http": True})  # noqa: S106 - nobody's

    def put(pair: tuple[str, bytes]) -> None:
        obstore.put(store, *pair, mode="create", use_multipart=False, attributes={"Content-Type": "image/jpeg"})

    def write(pairs: list[tuple[str, bytes]]) -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return len(list(pool.map(put, pairs)))

    return write


if __name__ == "__main__":
    report(writer(sys.argv[1]), int(sys.argv[2]))
