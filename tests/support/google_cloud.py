"""A cloud on the loopback: storage, BigQuery, Kaggle and a PostgreSQL, and a workspace saved that names them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.support import debian_postgres
from tests.support.bigquery_server import BigQueryServer
from tests.support.command import MAIN
from tests.support.gcs_server import GcsServer
from tests.support.kaggle_server import Dataset, KaggleServer, kaggle
from tests.support.loopback import Fault, LoopbackServer
from tests.support.prefect_processes import Server, start_server

BUCKET = "pictures"
#: Of the requests of each route; the fractions of the four kinds make 5 %.
SHARES = {"429": 0.0125, "503": 0.0125, "cut": 0.0125, "late": 0.0125}

SAVE_CREDENTIALS = """
import json, sys
from prefect_gcp import GcpCredentials
from lookbook.blocks.kaggle import KaggleCredentials
GcpCredentials(service_account_info=json.load(sys.stdin)).save("cloud", overwrite=True)
KaggleCredentials(token="good-token").save("cloud", overwrite=True)
"""


@dataclass
class Cloud:
    """The servers, and a Prefect server on which the workspace ``cloud`` is saved.

    Attributes:
        settings: what leads the clients of a process to the servers.
    """

    gcs: GcsServer
    bigquery: BigQueryServer
    kaggle: KaggleServer
    prefect: Server
    settings: dict[str, str]

    @property
    def servers(self) -> dict[str, LoopbackServer]:
        """Those into which faults are injected."""
        return {
            "gcs": self.gcs,
            "bigquery": self.bigquery,
            "kaggle": self.kaggle.api,
            "downloads": self.kaggle.storage,
        }

    def keys(self, pattern: str) -> list[str]:
        """Names of the objects in the bucket that match a pattern."""
        with self.gcs.store.lock:
            return [name for name in self.gcs.store.buckets[BUCKET] if fnmatchcase(name, pattern)]

    def misbehave(self) -> None:
        """From now on the first request of each route fails, and one in twenty of the others, each in its way."""
        for server in self.servers.values():
            for route in server.routes:
                server.inject(Fault(route.name, status=503, count=1))
            server.inject(Fault(status=429, share=SHARES["429"], headers={"Retry-After": "0"}))
            server.inject(Fault(status=503, share=SHARES["503"]))
            server.inject(Fault(cut=True, share=SHARES["cut"]))
            server.inject(Fault(latency=0.2, share=SHARES["late"]))


@contextmanager
def running_cloud(home: Path, files: Mapping[str, bytes]) -> Iterator[Cloud]:
    """All servers while the block runs; `files` are Kaggle's dataset ``ann/fashion``, for those who log in."""
    gcs, holder = GcsServer(BUCKET), kaggle(fashion=Dataset([files], private=True))
    bigquery = BigQueryServer(fetch=lambda uri: fetched(gcs, uri))
    try:
        with debian_postgres.cluster("registry") as address, holder as datasets:
            settings = {
                "STORAGE_EMULATOR_HOST": gcs.url,
                "BIGQUERY_EMULATOR_HOST": bigquery.url,
                "LOOKBOOK_REGISTRY_URL": f"postgresql://{address}/registry",
                **datasets.environment(),
            }
            cloud = Cloud(gcs, bigquery, datasets, start_server(home), settings)
            save_workspace(cloud)
            yield cloud
    finally:
        gcs.close()
        bigquery.close()


def fetched(gcs: GcsServer, uri: str) -> dict[str, bytes]:
    """The objects that a ``gs://`` address names, with wildcards."""
    bucket, _, pattern = uri.removeprefix("gs://").partition("/")
    with gcs.store.lock:
        return {
            f"gs://{bucket}/{name}": found.data
            for name, found in gcs.store.buckets[bucket].items()
            if fnmatchcase(name, pattern)
        }


def save_workspace(cloud: Cloud) -> None:
    """Save credentials and the workspace ``cloud``, as docs/workspaces.md says."""
    account = json.dumps(cloud.gcs.require_tokens().account(cloud.gcs.url))
    saved = cloud.prefect.python(SAVE_CREDENTIALS, given=account, **cloud.settings)
    assert saved.returncode == 0, saved.stderr
    where = ("--lake", f"gs://{BUCKET}/lake", "--warehouse", "bigquery://test-project/EU")
    who = ("--credentials", "cloud", "--kaggle", "cloud")
    saved = cloud.prefect.python(
        MAIN,
        "workspace",
        "save",
        "cloud",
        *where,
        *who,
        **cloud.settings,
    )
    assert saved.returncode == 0, saved.stderr
