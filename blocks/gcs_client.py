"""The client of Google Cloud Storage: one for each process, with a connection for each thread."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    from google.cloud.storage import Client
    from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from prefect_gcp import GcpCredentials
    from requests import Session

# For traces that nobody asked for the client reads the bucket's metadata: a request more, and a permission more.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


def storage_client(credentials: GcpCredentials, threads: int) -> Client:
    """Return a client that `threads` threads use at once, each over a connection that stays open.

    Equal credentials share one; a forked process gets its own, for two processes can't share connections.
    """
    return _shared(credentials, threads, os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))


@lru_cache(maxsize=16)
def _shared(credentials: GcpCredentials, threads: int, process: int, emulator: str | None) -> Client:  # noqa: ARG001
    client = credentials.get_cloud_storage_client()
    session = session_of(client)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=threads))
    # Proxies and certificates of the environment, asked for once: for each request it takes longer than to send it.
    told = session.merge_environment_settings(client.api_endpoint, {}, None, None, None)
    session.proxies, session.verify, session.cert = told["proxies"], told["verify"], told["cert"]
    session.trust_env = False
    return client


def session_of(client: Client) -> Session:
    """Return the client's connections, which send its credentials along."""
    return cast("Session", client._http)  # nothing public gives it
