"""What goes wrong with BigQuery, as errors that a user can act on.

Reasons and statuses: https://cloud.google.com/bigquery/docs/error-messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests import RequestException

#: Reasons of a failed job that may pass: the same job may be run again, under another id.
PASSING = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
        "tableUnavailable",
    }
)

#: What a statement, and a transaction, is told that met another one in a table.
_CONCURRENT = ("Could not serialize access", "Transaction is aborted due to concurrent update")

_WAYS_OUT = {
    "accessDenied": "The account needs BigQuery Job User on the project, BigQuery Data Editor on both datasets, and"
    " Storage Object Viewer on the lake's bucket.",
    "billingNotEnabled": "Link a billing account to the project: the sandbox has no DML, and its tables expire.",
    "billingTierLimitExceeded": "Ask for less at once.",
    "bytesBilledLimitExceeded": "Name fewer columns, or raise maximum_bytes_billed of the warehouse's block.",
    "quotaExceeded": "Wait until the quota is free again, or have it raised; then run again: it goes on from here.",
    "rateLimitExceeded": "Wait a little, then run again: it goes on from here.",
    "notFound": "See that the name is right, and that everything lies in the warehouse's location.",
    "invalidQuery": 'BigQuery reads GoogleSQL; "lookbook query SQL --dry-run" checks a statement for nothing.',
}


class JobFailedError(Exception):
    """A job has failed; `result` is its `errorResult`."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__(result.get("message", ""))
        self.reason: str = result.get("reason", "")
        self.message: str = result.get("message", "")

    @property
    def may_pass(self) -> bool:
        """Whether the same job may succeed if run again: the service was busy, or another load changed the table."""
        return self.reason in PASSING or any(words in self.message for words in _CONCURRENT)


@contextmanager
def named_faults(project: str) -> Iterator[None]:
    """Turn what the client raises, and what jobs fail of, into errors of ours.

    Raises:
        OutOfReachError: the service did not answer, or only with faults of its own, for as long as it was tried.
        LookbookError: anything else, by the reason that BigQuery gives.
    """
    try:
        yield
    except JobFailedError as error:
        raise _named(project, error.reason, error.message) from error
    except TransportError as error:
        raise _out_of_reach(project, error) from error
    except (GoogleAuthError, api.Unauthorized) as error:
        raise LookbookError(
            f"BigQuery project {project}: the credentials cannot be used: {type(error).__name__}.",
            "Renew the key of the warehouse's credentials block, or sign in: gcloud auth application-default login.",
        ) from error
    except (api.RetryError, api.ServerError, RequestException, ConnectionError, TimeoutError) as error:
        reason, message = told(error)
        if reason == "bytesBilledLimitExceeded":  # the client takes a reason that it does not know for a 500
            raise _named(project, reason, message) from error
        raise _out_of_reach(project, error) from error
    except api.GoogleAPICallError as error:
        raise _named(project, *told(error)) from error


def told(error: Exception) -> tuple[str, str]:
    """Return reason and message of what the client raised; both empty where BigQuery gave none."""
    if isinstance(error, api.RetryError):
        return told(error.cause) if error.cause else ("", str(error))
    if not isinstance(error, api.GoogleAPICallError):
        return "", str(error)
    first = error.errors[0] if error.errors else {}
    plain = first if isinstance(first, Mapping) else {}
    message = plain.get("message") or re.sub(r"^[A-Z]+ \S+: ", "", str(error.message))
    return plain.get("reason", ""), message


def _named(project: str, reason: str, message: str) -> LookbookError:
    if reason in PASSING:
        return OutOfReachError(f"BigQuery project {project}: {message}", _WAYS_OUT.get(reason, "Run again."))
    if reason == "notFound" and message.startswith("Not found: Project"):
        return LookbookError(
            f"BigQuery project {project}: there is none of this name, or it is not yours to see.",
            "Name another one in the workspace's warehouse block; it is the project's id, not its title.",
        )
    return LookbookError(f"BigQuery project {project}: {message}", _WAYS_OUT.get(reason, ""))


def _out_of_reach(project: str, error: Exception) -> OutOfReachError:
    _, message = told(error)
    return OutOfReachError(
        f"BigQuery project {project}: the service does not answer as it should: {message or type(error).__name__}",
        "What readers see is unchanged. Run again: what was done already is found and not done twice.",
    )
