"""What goes wrong with Google Cloud Storage, as errors that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, OutOfReachError
from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import DataCorruption
    from requests import RequestException

#: What passes, of the service and of the way to it. Other kinds of OSError are those of this machine's disk.
_NETWORK_FAULTS = (
    api.RetryError,
    api.ServerError,
    api.TooManyRequests,
    RequestException,
    DataCorruption,
    ConnectionError,
    TimeoutError,
)


@contextmanager
def named_faults(bucket: str, name: str = "") -> Iterator[None]:
    """Turn what the client raises into errors of ours. A precondition that failed is the caller's to judge.

    Args:
        bucket: the bucket that is asked.
        name: of the object that is asked for, if it is one.

    Raises:
        ObjectNotFoundError: there is no such object.
        OutOfReachError: the service did not answer, or only with faults of its own, as long as it was tried.
        LookbookError: there is no such bucket, or the credentials are refused or may not do this.
    """
    try:
        yield
    except api.PreconditionFailed:
        raise
    except api.NotFound as error:
        raise _missing(bucket, name, error) from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise _refused(bucket, error) from error
    except TransportError as error:
        raise _out_of_reach(bucket, error) from error
    except GoogleAuthError as error:
        raise LookbookError(
            f"gs://{bucket}: the credentials cannot be used: {type(error).__name__}.",
            "Renew the key of the lake's credentials block, or sign in: gcloud auth application-default login.",
        ) from error
    except _NETWORK_FAULTS as error:
        raise _out_of_reach(bucket, error) from error
    except api.GoogleAPICallError as error:
        raise LookbookError(f"gs://{bucket}/{name}: refused: {_told(error)}") from error


def _missing(bucket: str, name: str, error: api.NotFound) -> LookbookError:
    if name and "bucket does not exist" not in str(error):
        return ObjectNotFoundError(f"{name}: not in the bucket {bucket}.")
    return LookbookError(
        f"The bucket {bucket} does not exist.", "Create it, or name another one in the workspace's lake block."
    )


def _refused(bucket: str, error: api.GoogleAPICallError) -> LookbookError:
    permission = re.search(r"storage\.[a-z]+\.[A-Za-z]+ access", str(error))
    what = f"The account lacks {permission[0].removesuffix(' access')}" if permission else "Access is denied"
    return LookbookError(
        f"gs://{bucket}: {what} ({error.code}).",
        f"Grant it the role Storage Object User (roles/storage.objectUser) on the bucket {bucket}.",
    )


def _out_of_reach(bucket: str, error: BaseException) -> OutOfReachError:
    cause = error.cause if isinstance(error, api.RetryError) and error.cause else error
    return OutOfReachError(
        f"gs://{bucket} is out of reach: {_told(cause)}.", "Run the command again: it goes on where this one stopped."
    )


def _told(error: BaseException) -> str:
    """Return what went wrong in a few words: the messages of clients hold addresses and whole bodies."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "code", None)
    return f"status {int(status)}" if status else type(error).__name__
