"""How a session is logged in at Kaggle: by what it is given, or by what this machine is logged in with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lookbook.blocks.extras import needs_extra

with needs_extra("kaggle", "kaggle://"):
    import requests
    from kagglesdk import KaggleClient
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
        """Whether there is anything to log in with."""
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
    """The token of ``kaggle auth login``, renewed where it has run out; "" where nobody logged in or it is refused."""
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
