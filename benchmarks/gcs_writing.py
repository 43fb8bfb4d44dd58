"""Small objects into a bucket: ``CONTENDER URL COUNT``; each contender creates only what is not there yet."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from google.cloud.storage import transfer_manager

from benchmarks.peers.objects import BUCKET, THREADS, Write, report
from lookbook.blocks.gcs import GcsLake
from tests.support.gcp_credentials import AnonymousGcpCredentials


def by_lake(url: str, threads: int = THREADS) -> Write:
    """Our lake, from a pool of threads."""
    lake = GcsLake(bucket=BUCKET, credentials=AnonymousGcpCredentials(endpoint=url), threads=threads)

    def write(pairs: list[tuple[str, bytes]]) -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda pair: lake.put(*pair), pairs))

    return write


def by_transfer_manager(url: str) -> Write:
    """The official client's own pool of threads, on a client as it comes."""
    bucket = AnonymousGcpCredentials(endpoint=url).get_cloud_storage_client().bucket(BUCKET)

    def write(pairs: list[tuple[str, bytes]]) -> int:
        files = [(io.BytesIO(data), bucket.blob(key)) for key, data in pairs]
        transfer_manager.upload_many(
            files, skip_if_exists=True, raise_exception=True, worker_type=transfer_manager.THREAD, max_workers=THREADS
        )
        return len(files)

    return write


CONTENDERS: dict[str, Callable[[str], Write]] = {
    "lake": by_lake,
    "transfer_manager": by_transfer_manager,
    "one_by_one": lambda url: by_lake(url, 1),
}


if __name__ == "__main__":
    report(CONTENDERS[sys.argv[1]](sys.argv[2]), int(sys.argv[3]))
