"""Small objects into a bucket: ``CONTENDER URL COUNT``; each contender creates only what is not there yet."""

from __future__ import annotations

import io
import os
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import obstore
from google.cloud.storage import transfer_manager
from obstore.store import GCSStore

from benchmarks.gcs_serving import BUCKET
from benchmarks.peers import clock
from blocks.gcs_lake import GcsLake
from tests.support.gcp_credentials import AnonymousGcpCredentials

#: Bytes of an object: as a greyscale of 512 × 512 pixels.
SIZE = 20_000
#: Requests at once: as many as images are under way on two cores.
THREADS = 48


def objects(count: int) -> list[tuple[str, bytes]]:
    """Keys that spread as those of the lake do, and bytes that do not compress."""
    return [(f"derived/{uuid.uuid4().hex}.jpg", os.urandom(SIZE)) for _ in range(count)]


def by_lake(url: str, threads: int = THREADS) -> Callable[[list[tuple[str, bytes]]], int]:
    """Our lake, from a pool of threads."""
    lake = GcsLake(bucket=BUCKET, credentials=AnonymousGcpCredentials(endpoint=url), threads=threads)

    def write(pairs: list[tuple[str, bytes]]) -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda pair: lake.put(*pair), pairs))

    return write


def by_transfer_manager(url: str) -> Callable[[list[tuple[str, bytes]]], int]:
    """The official client's own pool of threads, on a client as it comes."""
    bucket = AnonymousGcpCredentials(endpoint=url).get_cloud_storage_client().bucket(BUCKET)

    def write(pairs: list[tuple[str, bytes]]) -> int:
        files = [(io.BytesIO(data), bucket.blob(key)) for key, data in pairs]
        transfer_manager.upload_many(  # type: ignore[no-untyped-call]
            files, skip_if_exists=True, raise_exception=True, worker_type=transfer_manager.THREAD, max_workers=THREADS
        )
        return len(files)

    return write


def by_obstore(url: str) -> Callable[[list[tuple[str, bytes]]], int]:
    """The client in Rust, over the XML API: it compares no checksum."""
    store = GCSStore(BUCKET, base_url=url, skip_signature=True, client_options={"allow_http": True})

    def put(pair: tuple[str, bytes]) -> None:
        obstore.put(store, *pair, mode="create", use_multipart=False, attributes={"Content-Type": "image/jpeg"})

    def write(pairs: list[tuple[str, bytes]]) -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return len(list(pool.map(put, pairs)))

    return write


CONTENDERS: dict[str, Callable[[str], Callable[[list[tuple[str, bytes]]], int]]] = {
    "lake": by_lake,
    "transfer_manager": by_transfer_manager,
    "one_by_one": lambda url: by_lake(url, 1),
    "obstore": by_obstore,
}


def main(contender: str, url: str, count: int) -> None:
    """Report the objects, and their seconds of wall and CPU time; connections are made before."""
    write = CONTENDERS[contender](url)
    write(objects(THREADS))
    pairs = objects(count)
    clock.report(lambda: write(pairs))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
