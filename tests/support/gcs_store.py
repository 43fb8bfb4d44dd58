"""What a stand-in for Google Cloud Storage holds: objects in memory, with generations and their preconditions."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google_crc32c

#: The fields of an object's metadata that a client may set.
WRITABLE = {"cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "metadata"}


class ApiError(Exception):
    """An answer that is no success: status, reason and message as the service gives them."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(status, reason, message)
        self.status, self.reason, self.message = status, reason, message


@dataclass
class StoredObject:
    """One object. A composed one has no MD5."""

    bucket: str
    name: str
    data: bytes
    generation: int
    settings: dict[str, Any]
    components: int = 0
    metageneration: int = 1
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.crc32c = crc32c(self.data)
        self.md5 = "" if self.components else md5(self.data)

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    def resource(self, host: str) -> dict[str, Any]:
        """Its metadata: https://cloud.google.com/storage/docs/json_api/v1/objects#resource."""
        path = f"b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}"
        time = self.created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        told = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"http://{host}/storage/v1/{path}",
            "mediaLink": f"http://{host}/download/storage/v1/{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": "STANDARD",
            "size": str(len(self.data)),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": time,
            "updated": time,
        }
        more: dict[str, Any] = {"componentCount": self.components} if self.components else {"md5Hash": self.md5}
        return told | more | self.settings


class Store:
    """Buckets by name, each with its objects by name.

    Attributes:
        most_results: of one page of a listing, whatever is asked.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {}
        self.most_results = 1000
        self.lock = threading.RLock()
        self._generations = itertools.count(1_763_760_000_000_001)

    def bucket(self, name: str) -> dict[str, StoredObject]:
        if name not in self.buckets:
            raise ApiError(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[name]

    def read(self, bucket: str, name: str, query: Mapping[str, str], source: bool = False) -> StoredObject:
        """An object, if the preconditions for reading hold; with `source`, those of a copy's source."""
        with self.lock:
            found = self.bucket(bucket).get(name)
            generation = query.get("sourceGeneration" if source else "generation")
            if found is None or (generation and int(generation) != found.generation):
                raise ApiError(404, "notFound", f"No such object: {bucket}/{name}")
            check(found, query, reading=True, kind="ifSource" if source else "if")
            return found

    def check_write(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        """See that an object may be written."""
        with self.lock:
            check(self.bucket(bucket).get(name), query)

    def write(
        self,
        bucket: str,
        name: str,
        data: bytes,
        given: Mapping[str, Any],
        query: Mapping[str, str],
        components: int = 0,
    ) -> StoredObject:
        """Store an object as a new generation; its checksums are compared with those `given`."""
        if not name or len(name.encode()) > 1024:
            raise ApiError(400, "required" if not name else "invalid", "Required" if not name else "Invalid name")
        settings = {key: value for key, value in given.items() if key in WRITABLE}
        with self.lock:
            check(self.bucket(bucket).get(name), query)
            made = StoredObject(bucket, name, data, next(self._generations), settings, components)
            compare_checksums(made, given)
            self.buckets[bucket][name] = made
            return made

    def change(self, found: StoredObject, given: Mapping[str, Any]) -> None:
        """Change metadata; None removes a field."""
        with self.lock:
            settings = found.settings | {key: value for key, value in given.items() if key in WRITABLE}
            found.settings = {key: value for key, value in settings.items() if value is not None}
            found.metageneration += 1

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        with self.lock:
            found = self.bucket(bucket).get(name)
            generation = query.get("generation")
            if found is None or (generation and int(generation) != found.generation):
                raise ApiError(404, "notFound", f"No such object: {bucket}/{name}")
            check(found, query)
            del self.buckets[bucket][name]


def check(found: StoredObject | None, query: Mapping[str, str], reading: bool = False, kind: str = "if") -> None:
    """See that preconditions hold (https://cloud.google.com/storage/docs/request-preconditions).

    Raises:
        ApiError: 412; 304 where something is read that did not change.
    """
    current = {
        "Generation": found.generation if found else 0,
        "Metageneration": found.metageneration if found else 0,
    }
    for what, value in current.items():
        wanted, unwanted = (query.get(f"{kind}{what}{condition}") for condition in ("Match", "NotMatch"))
        if wanted is not None and int(wanted) != value:
            raise ApiError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        if unwanted is not None and int(unwanted) == value:
            raise ApiError(
                304 if reading else 412,
                "conditionNotMet",
                "At least one of the pre-conditions you specified did not hold.",
            )


def compare_checksums(made: StoredObject, given: Mapping[str, Any]) -> None:
    """Refuse bytes that are not those whose checksum the client names."""
    for name, field_name, found in (("CRC32C", "crc32c", made.crc32c), ("MD5 hash", "md5Hash", made.md5)):
        told = given.get(field_name)
        if told is not None and told != found:
            raise ApiError(400, "invalid", f'Provided {name} "{told}" doesn\'t match calculated {name} "{found}".')


def crc32c(data: bytes) -> str:
    """As metadata and headers give it: base64 of four bytes, the highest first."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    """As metadata and headers give it, in base64."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
