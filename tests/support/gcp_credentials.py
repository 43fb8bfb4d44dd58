"""Credentials for stand-in servers: nobody's."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import Client as BigQueryClient
from google.cloud.storage import Client as StorageClient
from prefect_gcp import GcpCredentials


class AnonymousGcpCredentials(GcpCredentials):  # type: ignore[misc] # prefect-gcp has no types
    """Nobody's credentials, and clients that ask a server on the loopback.

    Attributes:
        endpoint: the server's address; None leaves it to STORAGE_EMULATOR_HOST and BIGQUERY_EMULATOR_HOST.
    """

    _block_type_slug = "anonymous-gcp-credentials"

    endpoint: str | None = None
    project: str | None = "test-project"

    def get_credentials_from_service_account(self) -> Any:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]

    def get_cloud_storage_client(self, project: str | None = None) -> StorageClient:
        return StorageClient(
            project=project or self.project,
            credentials=self.get_credentials_from_service_account(),
            client_options={"api_endpoint": self.endpoint} if self.endpoint else None,
        )

    def get_bigquery_client(self, project: str | None = None, location: str | None = None) -> BigQueryClient:
        return BigQueryClient(
            project=project or self.project,
            credentials=self.get_credentials_from_service_account(),
            location=location,
            client_options={"api_endpoint": self.endpoint} if self.endpoint else None,
        )


def private_key() -> str:
    """A new key of a service account, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
