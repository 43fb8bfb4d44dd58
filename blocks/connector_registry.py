"""The registry where prefect-sqlalchemy's block keeps the credentials. Imports SQLAlchemy: import it late."""

from __future__ import annotations

from typing import Any

from prefect_sqlalchemy import AsyncSqlAlchemyConnector, ConnectionComponents
from pydantic import Field
from sqlalchemy.engine import URL, make_url

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Address, Registry

DRIVER = "postgresql+asyncpg"
#: What SQLAlchemy's dialect takes for itself.
SQLALCHEMYS_OWN = {
    "async_creator_fn",
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
}


class ConnectorRegistry(Registry):
    """PostgreSQL with the credentials of an Async SQLAlchemy Connector, which other flows may use too."""

    _block_type_name = "Lookbook Connector Registry"
    _block_type_slug = "lookbook-connector-registry"

    connector: AsyncSqlAlchemyConnector = Field(
        description="Of the driver postgresql+asyncpg, with its parts (not as one URL, which shows its password)."
    )

    @property
    def is_embedded(self) -> bool:
        """See `Registry.is_embedded`."""
        return False

    def address(self) -> Address:
        """See `Registry.address`. Asyncpg gets what SQLAlchemy would give it; libpq's options (sslmode …) do as well.

        Raises:
            LookbookError: it names another driver, or a URL that holds a password.
        """
        url = self._url()
        if url.drivername != DRIVER:
            raise LookbookError(
                f"{self._connector()} is of the driver {url.drivername}; the registry needs {DRIVER}.",
                "Choose that driver in the connector's block.",
            )
        taken = SQLALCHEMYS_OWN | {"ssl"}
        dsn = url.set(drivername="postgresql", query={k: v for k, v in url.query.items() if k not in taken})
        options: dict[str, Any] = {"ssl": url.query["ssl"]} if "ssl" in url.query else {}
        options |= {k: v for k, v in (self.connector.connect_args or {}).items() if k not in SQLALCHEMYS_OWN}
        return Address(dsn.render_as_string(hide_password=False), options)

    def label(self) -> str:
        """See `Registry.label`."""
        return f"of {self._connector()}"

    def _url(self) -> URL:
        parts = self.connector.connection_info
        by_parts = isinstance(parts, ConnectionComponents)
        url: URL = parts.create_url() if by_parts else make_url(parts)
        if url.password and not by_parts:
            raise LookbookError(
                f"{self._connector()} holds its password in a URL, which Prefect shows to everybody.",
                "Give the connector its parts: driver, host, database, username, password; and change that password.",
            )
        return url

    def _connector(self) -> str:
        return f"the connector {self.connector._block_document_name or '(not saved)'}"
