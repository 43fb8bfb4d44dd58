"""Where the BigQuery stand-in finds the objects that ``gs://`` addresses name: a stand-in for Google Cloud Storage."""

from __future__ import annotations

from fnmatch import fnmatchcase

from tests.support.bigquery_jobs import Fetch
from tests.support.gcp_credentials import AnonymousGcpCredentials


def objects_at(url: str) -> Fetch:
    """The objects of the storage server at `url`, by address; an address may hold one ``*``."""
    client = AnonymousGcpCredentials(endpoint=url).get_cloud_storage_client()

    def fetch(uri: str) -> dict[str, bytes]:
        bucket, _, pattern = uri.removeprefix("gs://").partition("/")
        blobs = client.list_blobs(bucket, prefix=pattern.partition("*")[0])
        return {
            f"gs://{bucket}/{blob.name}": blob.download_as_bytes()
            for blob in blobs
            if fnmatchcase(blob.name, pattern.replace("[", "[[]").replace("?", "[?]"))
        }

    return fetch
