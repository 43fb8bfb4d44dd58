"""A stand-in for Google Cloud Storage on the loopback: its JSON API, as strict as it is documented."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from functools import partial, wraps

from tests.support import gcs_batch, gcs_listing
from tests.support.gcp_tokens import Tokens
from tests.support.gcs_store import ApiError, Store, StoredObject
from tests.support.gcs_uploads import Uploads
from tests.support.loopback import LoopbackServer, Request, Response, Route, json_response

Answer = Callable[[Request], Response]
BUCKET = "/storage/v1/b/([^/]+)"
OBJECT = BUCKET + "/o/([^/]+)"


class GcsServer(LoopbackServer):
    """Serves until `close`.

    Attributes:
        store: what it holds.
        uploads: those under way.
        tokens: where set, requests need one of its tokens; set it with `Tokens.route` among `routes`.
    """

    def __init__(self, *buckets: str) -> None:
        self.store = Store()
        self.uploads = Uploads(self.store)
        self.tokens: Tokens | None = None
        for bucket in buckets:
            self.store.buckets[bucket] = {}
        super().__init__(
            [Route(name, method, path, self._guarded(answer)) for name, method, path, answer in self._table()]
        )

    def require_tokens(self) -> Tokens:
        """From now on requests need a token."""
        self.tokens = Tokens()
        self.routes.insert(0, self.tokens.route)
        return self.tokens

    def _table(self) -> list[tuple[str, str, str, Answer]]:
        return [
            ("buckets.insert", "POST", "/storage/v1/b", self._insert_bucket),
            ("buckets.get", "GET", BUCKET, self._get_bucket),
            ("objects.list", "GET", BUCKET + "/o", self._list),
            ("objects.insert", "POST", "/upload" + BUCKET + "/o", self.uploads.insert),
            ("objects.resume", "PUT", "/upload" + BUCKET + "/o", self.uploads.resume),
            ("objects.cancel", "DELETE", "/upload" + BUCKET + "/o", self.uploads.cancel),
            ("objects.download", "GET", "/download" + OBJECT, self._download),
            ("objects.get", "GET", OBJECT, self._get),
            ("objects.patch", "PATCH", OBJECT, self._patch),
            ("objects.delete", "DELETE", OBJECT, self._delete),
            ("objects.compose", "POST", OBJECT + "/compose", self._compose),
            ("objects.rewrite", "POST", OBJECT + "/rewriteTo/b/([^/]+)/o/([^/]+)", partial(self._copy, rewrite=True)),
            ("objects.copy", "POST", OBJECT + "/copyTo/b/([^/]+)/o/([^/]+)", partial(self._copy, rewrite=False)),
            ("batch", "POST", "/batch/storage/v1", partial(gcs_batch.answer, self)),
            ("xml.put", "PUT", "/([^/]+)/(.+)", self._xml_put),
            ("xml.get", "GET|HEAD", "/([^/]+)/(.+)", self._xml_get),
        ]

    def _guarded(self, answer: Answer) -> Answer:
        @wraps(answer)
        def guarded(request: Request) -> Response:
            try:
                self._check_token(request)
                return answer(request)
            except ApiError as error:
                return refusal(error, request)
            except Exception:  # noqa: BLE001 - of the stand-in itself: a status that no client tries again
                return refusal(ApiError(501, "standIn", traceback.format_exc()), request)

        return guarded

    def _check_token(self, request: Request) -> None:
        if self.tokens and not self.tokens.allow(request):
            raise ApiError(401, "required", "Anonymous caller does not have storage access to the bucket.")

    def _insert_bucket(self, request: Request) -> Response:
        name = str(request.json().get("name", ""))
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise ApiError(400, "invalid", f"Invalid bucket name: '{name}'")
        with self.store.lock:
            if name in self.store.buckets:
                raise ApiError(409, "conflict", "Your previous request to create the named bucket succeeded.")
            self.store.buckets[name] = {}
        return json_response(bucket_resource(name))

    def _get_bucket(self, request: Request) -> Response:
        self.store.bucket(request.parts[0])
        return json_response(bucket_resource(request.parts[0]))

    def _list(self, request: Request) -> Response:
        found = gcs_listing.list_objects(self.store, request.parts[0], request.query, request.headers["host"])
        return json_response(gcs_listing.only_fields(found, request.query.get("fields")))

    def _get(self, request: Request) -> Response:
        if request.query.get("alt") == "media":
            return self._download(request)
        return self._told(self._read(request), request)

    def _read(self, request: Request) -> StoredObject:
        found = self.store.read(request.parts[0], request.parts[1], request.query)
        unchanged = request.headers.get("if-none-match")
        if unchanged is not None and unchanged.strip('"') == found.etag:
            raise ApiError(304, "notModified", "Not Modified")
        if request.headers.get("if-match", found.etag).strip('"') != found.etag:
            raise ApiError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        return found

    def _download(self, request: Request) -> Response:
        return media(self._read(request), request.headers.get("range"))

    def _patch(self, request: Request) -> Response:
        with self.store.lock:
            self.store.check_write(request.parts[0], request.parts[1], request.query)
            found = self.store.read(request.parts[0], request.parts[1], {})
            self.store.change(found, request.json())
        return self._told(found, request)

    def _delete(self, request: Request) -> Response:
        self.store.delete(request.parts[0], request.parts[1], request.query)
        return Response(204)

    def _compose(self, request: Request) -> Response:
        bucket, name = request.parts
        asked = request.json()
        if not 1 <= len(asked.get("sourceObjects", ())) <= 32:
            raise ApiError(400, "invalid", "The number of source components provided must be between 1 and 32.")
        with self.store.lock:
            sources = []
            for one in asked["sourceObjects"]:
                conditions = {key: str(value) for key, value in one.get("objectPreconditions", {}).items()}
                generation = {"generation": str(one["generation"])} if one.get("generation") else {}
                sources.append(self.store.read(bucket, one["name"], conditions | generation))
            data = b"".join(source.data for source in sources)
            components = sum(source.components or 1 for source in sources)
            made = self.store.write(bucket, name, data, asked.get("destination", {}), request.query, components)
        return self._told(made, request)

    def _copy(self, request: Request, rewrite: bool) -> Response:
        bucket, name, to_bucket, to_name = request.parts
        with self.store.lock:
            source = self.store.read(bucket, name, _of_source(request), source=True)
            given = request.json() or source.settings
            made = self.store.write(to_bucket, to_name, source.data, given, request.query, source.components)
        if not rewrite:
            return self._told(made, request)
        size = str(len(made.data))
        whole = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
        return json_response(whole | {"resource": made.resource(request.headers["host"])})

    def _told(self, found: StoredObject, request: Request) -> Response:
        return json_response(
            gcs_listing.only_fields(found.resource(request.headers["host"]), request.query.get("fields"))
        )

    def _xml_put(self, request: Request) -> Response:
        match = request.headers.get("x-goog-if-generation-match")
        given = {"contentType": request.headers.get("content-type", "application/octet-stream")}
        query = {"ifGenerationMatch": match} if match is not None else {}
        made = self.store.write(request.parts[0], request.parts[1], request.body, given, query)
        return Response(200, b"", {"ETag": f'"{made.md5}"', "x-goog-generation": str(made.generation)})

    def _xml_get(self, request: Request) -> Response:
        return media(self.store.read(request.parts[0], request.parts[1], {}), request.headers.get("range"))


def _of_source(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.query.items() if name.startswith(("ifSource", "source"))}


def bucket_resource(name: str) -> dict[str, str]:
    return {"kind": "storage#bucket", "id": name, "name": name, "location": "EU", "storageClass": "STANDARD"}


def media(found: StoredObject, asked: str | None) -> Response:
    """The bytes of an object, or a range of them. The hashes are those of the whole object, always."""
    size = len(found.data)
    headers = {
        "Content-Type": str(found.settings.get("contentType") or "application/octet-stream"),
        "Cache-Control": str(found.settings.get("cacheControl") or "private, max-age=0"),
        "ETag": found.etag,
        "Last-Modified": format_datetime(found.created, usegmt=True),
        "X-Goog-Generation": str(found.generation),
        "X-Goog-Metageneration": str(found.metageneration),
        "X-Goog-Hash": f"crc32c={found.crc32c}" + (f",md5={found.md5}" if found.md5 else ""),
        "X-Goog-Storage-Class": "STANDARD",
        "X-Goog-Stored-Content-Encoding": "identity",
        "X-Goog-Stored-Content-Length": str(size),
        "Accept-Ranges": "bytes",
    }
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if wanted is None or not any(wanted.groups()):
        return Response(200, found.data, headers)
    if wanted[1]:
        first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
    else:
        first, last = max(0, size - int(wanted[2])), size - 1
    if first >= size or last < first:
        raise ApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    return Response(206, found.data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{size}"})


def refusal(error: ApiError, request: Request) -> Response:
    """JSON; plain text where bytes were asked for."""
    if error.status == 304:
        return Response(304)
    if request.query.get("alt") == "media":
        return Response(error.status, error.message.encode(), {"Content-Type": "text/html; charset=UTF-8"})
    detail = {"message": error.message, "domain": "global", "reason": error.reason}
    return json_response({"error": {"code": error.status, "message": error.message, "errors": [detail]}}, error.status)


@contextmanager
def serving_gcs(*buckets: str) -> Iterator[GcsServer]:
    """A server with empty buckets, while the block runs."""
    server = GcsServer(*buckets)
    try:
        yield server
    finally:
        server.close()
