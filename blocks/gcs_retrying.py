"""How requests to Google Cloud Storage are tried again."""

from __future__ import annotations

from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A bucket of Google Cloud Storage"):
    from google.api_core.retry import Retry, if_exception_type
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests import RequestException

#: Seconds that a request is tried again while the service is out of reach or has faults; then it is an error.
RETRY_SECONDS = 60.0
#: Seconds to connect, and to wait for the next bytes of an answer.
TIMEOUT = (10.0, 60.0)


def retrying() -> Retry:
    """After a quarter of a second, and ever later, until the budget is spent.

    What is tried again is what Google says may be: https://cloud.google.com/storage/docs/retry-strategy.
    """
    policy: Retry = DEFAULT_RETRY.with_delay(initial=0.25, maximum=10.0, multiplier=2.0)
    return policy.with_timeout(RETRY_SECONDS)


def with_whole_refusals() -> Retry:
    """Around the client's uploads and downloads: it reads what a refusal says when it no longer tries again."""
    return Retry(if_exception_type(RequestException), initial=0.25, maximum=10.0, timeout=RETRY_SECONDS)
