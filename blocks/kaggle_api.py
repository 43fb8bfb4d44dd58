"""Kaggle's datasets over its own client: logging in, versions, files that can be read on from any byte, faults."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lookbook.blocks.downloading import PASSING, RemoteFile, describe, retry_after
from lookbook.blocks.errors import LookbookError, MissingError, TransientError, needs_extra

with needs_extra("kaggle", "kaggle://"):
    import requests
    from kagglesdk import KaggleClient, KaggleEnv
    from kagglesdk.datasets.types.dataset_api_service import (
        ApiDownloadDatasetRequest,
        ApiGetDatasetRequest,
        ApiListDatasetFilesRequest,
    )
    from kagglesdk.kaggle_creds import KaggleCredentials
    from kagglesdk.kaggle_env import get_access_token_from_env
    from kagglesdk.kaggle_http_client import KaggleHttpClient
    from requests.adapters import HTTPAdapter

#: Seconds to connect, and between two pieces of an answer: Kaggle's client itself would wait for ever.
TIMEOUT = (10.0, 60.0)


@dataclass(frozen=True, repr=False)
class Login:
    """A token, or a user name and key, or nothing: public datasets only."""

    token: str = ""
    username: str = ""
    key: str = ""

    @property
    def given(self) -> bool:
        """Return whether there is anything to log in with."""
        return bool(self.token or (self.username and self.key))


def login_of_machine() -> Login:
    """Return what Kaggle's own client would take on this machine, in its order.

    That is KAGGLE_API_TOKEN or ``~/.kaggle/access_token``; KAGGLE_USERNAME and KAGGLE_KEY or ``kaggle.json``; what
    ``kaggle auth login`` left. Source: `kaggle.api.kaggle_api_extended.KaggleApi.authenticate`.
    """
    token, _ = get_access_token_from_env()
    if token:
        return Login(token=token)
    saved = _read_json(_config_folder() / "kaggle.json")
    username = os.environ.get("KAGGLE_USERNAME") or saved.get("username")
    key = os.environ.get("KAGGLE_KEY") or saved.get("key")
    if username and key:
        return Login(username=str(username), key=str(key))
    return Login(token=_token_of_browser_login())


def _config_folder() -> Path:
    if configured := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(configured)
    usual = Path.home() / ".kaggle"
    return usual if usual.exists() else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _token_of_browser_login() -> str:
    """Return the token of ``kaggle auth login``, renewed where it ran out; "" for none or a refused one."""
    try:
        saved = KaggleCredentials.load(client=KaggleClient())
        return (saved.get_access_token() if saved else None) or ""
    except (requests.RequestException, OSError, ValueError):
        return ""


class _Adapter(HTTPAdapter):
    def send(self, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - as requests has it
        return super().send(*args, **(options | {"timeout": options.get("timeout") or TIMEOUT}))


def session_with(login: Login) -> requests.Session:
    """Return a session whose requests to Kaggle carry the login; those that it is sent on to, elsewhere, do not."""
    session = session_without()
    if login.token:
        session.auth = KaggleHttpClient.BearerAuth(login.token)
    elif login.given:
        session.auth = (login.username, login.key)
    return session


def session_without() -> requests.Session:
    """Return a session without credentials, that gives up a server which says nothing."""
    session = requests.Session()
    # A file that is sent compressed has another size and checksum than the server says.
    session.headers.update({"User-Agent": f"lookbook/{version('lookbook-datasets')}", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter())
    return session


def named(error: requests.RequestException, what: str, logged_in: bool) -> Exception:
    """Return the error that stands for one of requests: a `TransientError` or a `LookbookError`.

    Args:
        error: without a response where none came.
        what: the dataset or file that was asked for.
        logged_in: whether credentials went along.
    """
    response = error.response
    if response is None:
        return TransientError(f"{what}: Kaggle does not answer ({type(error).__name__})")
    status = response.status_code
    if status in PASSING:
        return TransientError(f"{what}: Kaggle answers {status}", retry_after(response.headers))
    if response.history:  # the answer of the storage, to an address that holds for some minutes only
        return TransientError(f"{what}: Kaggle's storage answers {status}")
    return _lasting(status, f"{what}: Kaggle answers {status}{_message(response)}", what, logged_in)


def _lasting(status: int, problem: str, what: str, logged_in: bool) -> LookbookError:
    page = f"https://www.kaggle.com/datasets/{what.partition('@')[0]}"
    log_in = "" if logged_in else " Without credentials only public datasets can be read: see docs/kaggle.md."
    if status == 401:  # noqa: PLR2004 - the numbers are their names
        return LookbookError(problem, "The token or key does not hold: make another one in Kaggle's settings.")
    if status == 403:  # noqa: PLR2004
        return LookbookError(
            problem, f"It is private, or its owner asks for your consent: open {page}, accept, run again.{log_in}"
        )
    if status == 404:  # noqa: PLR2004
        return MissingError(problem, f"There is no such dataset, version or file: see {page}.{log_in}")
    return LookbookError(problem, f"See {page}.")


def _message(response: requests.Response) -> str:
    """Return what the server says in its JSON; never the reason that requests makes up, which names the address."""
    try:
        said = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {json.dumps(str(said)[:300], ensure_ascii=False)}"


# Nothing here imports Prefect. ``kaggle`` itself is not imported either: it logs in when it is imported, and may end
# the process. ``kagglesdk``, which comes with it, has the typed calls.

#: Files on a page of a listing: the most that Kaggle gives; it gives 20 where nothing is said.
PAGE_SIZE = 200
#: What is lost of a download that is cut, at the most.
CHUNK_BYTES = 64 * 1024
#: Another address of Kaggle's API, as kagglehub knows it.
ENDPOINT = "KAGGLE_API_ENDPOINT"


class KaggleDatasets:
    """The calls about datasets. One object for one thread.

    All of them raise `TransientError` for what may pass, and `LookbookError` for what does not: no such dataset (404),
    no right to it (403), credentials that are refused (401).
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._session = session_with(login)
        self._storage = session_without()
        self._client = _client(self._session)

    def current_version(self, owner: str, name: str) -> int:
        """Return the number of the newest version."""
        asked = ApiGetDatasetRequest()
        asked.owner_slug, asked.dataset_slug = owner, name
        found = self._call(f"{owner}/{name}", self._client.datasets.dataset_api_client.get_dataset, asked)
        version = int(found.current_version_number or 0)
        if version < 1:
            raise LookbookError(
                f"Kaggle names no version of {owner}/{name}: it is not ready yet, or was removed.",
                f"See https://www.kaggle.com/datasets/{owner}/{name}.",
            )
        return version

    def file_names(self, owner: str, name: str, version: int) -> Iterator[str]:
        """Yield the names of a version's files, page by page."""
        asked = ApiListDatasetFilesRequest()
        asked.owner_slug, asked.dataset_slug, asked.dataset_version_number = owner, name, version
        asked.page_size = PAGE_SIZE
        while True:
            page = self._call(f"{owner}/{name}", self._client.datasets.dataset_api_client.list_dataset_files, asked)
            yield from (str(file.name) for file in page.dataset_files or ())
            if not page.next_page_token:
                return
            asked.page_token = page.next_page_token

    @contextmanager
    def opened(
        self, owner: str, name: str, version: int, file: str = "", start: int = 0, validator: str = ""
    ) -> Iterator[RemoteFile]:
        """Yield a file of a version, or all of them as one archive, while the block runs.

        Args:
            owner: whose dataset.
            name: which.
            version: its number.
            file: the file's name within the dataset; "" for the archive.
            start: bytes that are here already.
            validator: what `RemoteFile.validator` said when they came; with another one they are of no use.
        """
        asked = ApiDownloadDatasetRequest()
        asked.owner_slug, asked.dataset_slug, asked.dataset_version_number = owner, name, version
        if file:
            asked.file_name = file
        what = f"{owner}/{name}@{version}" + (f"/{file}" if file else "")
        whole: requests.Response = self._call(what, self._client.datasets.dataset_api_client.download_dataset, asked)
        with whole:
            found = _described(whole, what)
            if not validator or found.validator != validator or not 0 < start < (found.size or 0):
                yield found
                return
        with self._continued(whole, what, start, validator) as rest:
            yield _described(rest, what, start)

    def _continued(self, whole: requests.Response, what: str, start: int, validator: str) -> requests.Response:
        """Read the rest of a file from the signed address that it was read from: without credentials."""
        asked = {"Range": f"bytes={start}-", "If-Range": validator}

        def get(address: str) -> requests.Response:
            rest = self._storage.get(address, headers=asked, stream=True)
            rest.raise_for_status()
            return rest

        try:
            rest: requests.Response = self._call(what, get, whole.url)
        except LookbookError as error:  # the address is good for some minutes only: the next try has another one
            raise TransientError(error.problem) from None
        return rest

    def _call(self, what: str, call: Callable[[Any], Any], asked: object) -> Any:  # noqa: ANN401 - the SDK's types
        try:
            return call(asked)
        except requests.RequestException as error:
            # Not chained: requests writes addresses into its messages, and those of the storage are secrets.
            raise named(error, what, self._login.given) from None
        except (ValueError, TypeError, KeyError) as error:
            raise TransientError(f"{what}: Kaggle's answer cannot be read ({type(error).__name__})") from None


def _client(session: requests.Session) -> KaggleClient:
    client = KaggleClient(env=KaggleEnv.PROD)
    http = client.http_client()
    http._session = session  # its own one prefers the machine's token to what it is given
    http._endpoint = os.environ.get(ENDPOINT) or http._endpoint  # it has fixed ones only
    return client


def _described(response: requests.Response, what: str, start: int = 0) -> RemoteFile:
    found = describe(what, response.status_code, response.headers, _chunks(response, what), start)
    if found.size is None:
        raise TransientError(f"{what}: Kaggle's storage does not say how many bytes it sends")
    # "crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==": cloud.google.com/storage/docs/xml-api/reference-headers
    hashes = dict(each.strip().split("=", 1) for each in response.headers.get("x-goog-hash", "").split(",") if each)
    return replace(found, md5=hashes.get("md5", ""))


def _chunks(response: requests.Response, what: str) -> Iterator[bytes]:
    try:
        yield from response.iter_content(CHUNK_BYTES)
    except requests.RequestException as error:
        raise TransientError(f"{what}: the connection was cut ({type(error).__name__})") from None
