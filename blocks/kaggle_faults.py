"""What can go wrong with Kaggle, by name: what may pass, and what does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lookbook.blocks.errors import LookbookError, MissingError, TransientError
from lookbook.blocks.extras import needs_extra

with needs_extra("kaggle", "kaggle://"):
    import requests

#: Too many requests, a request that took too long, and server errors: worth another try.
_PASSING = frozenset([408, 429, 500, 502, 503, 504])


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
    if status in _PASSING:
        return TransientError(f"{what}: Kaggle answers {status}", _wait(response))
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


def _wait(response: requests.Response) -> float | None:
    """Return seconds of a Retry-After header, which holds them or a date (RFC 9110, 10.2.3)."""
    said = response.headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
