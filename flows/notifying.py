"""Telling people: through saved notification blocks of any type."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterable
from typing import Any

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import get_logger
from prefect.plugins import load_prefect_collections


def notify(blocks: Iterable[str], subject: str, body: str) -> None:
    """Send a message through each block; one that fails is named in the log, and hides nothing and stops no other."""
    logger = get_logger("lookbook.notifying")
    for name in blocks:
        try:
            _send(name, subject, body)
        except Exception as fault:  # noqa: BLE001 - why the run failed is what counts
            # A block's own error may hold its address, which is a secret of most services.
            logger.warning("The block %s could not notify: %s", name, type(fault).__name__)


def _send(name: str, subject: str, body: str) -> None:
    with get_client(sync_client=True) as client:
        slug = _type_of(client, name)
    # Importing them registers the types of blocks.
    import prefect.blocks.notifications  # noqa: F401, PLC0415

    load_prefect_collections()
    block: Any = Block.load(f"{slug}/{name}", _sync=True)  # type: ignore[call-arg]
    answer = block.notify(body, subject)
    if inspect.isawaitable(answer):  # blocks of others know one way only
        asyncio.run(_awaited(answer))


async def _awaited(answer: Awaitable[object]) -> None:
    await answer


def _type_of(client: SyncPrefectClient, name: str) -> str:
    """Return the slug of the type of a saved block that can notify.

    Raises:
        LookupError: there is none of this name.
    """
    wanted = {"block_documents": {"name": {"any_": [name]}}, "include_secrets": False}
    for document in client.request("POST", "/block_documents/filter", json=wanted).json():
        if "notify" in document["block_schema"]["capabilities"]:
            return str(document["block_type"]["slug"])
    raise LookupError(name)
