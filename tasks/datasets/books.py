"""The books must balance: everything that was found has one outcome, or the run fails and says what is off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.desk import Desk

#: Keys named in an error, at the most.
NAMED = 5
#: Rules of which a limit of the recipe may be the cause.
RECIPE_RULES = {
    "timeout": "max_seconds",
    "too_small": "min_image_size",
    "too_large": "max_image_area or max_file_bytes",
    "aspect_ratio": "max_aspect_ratio",
}


class RefusedRunError(LookbookError):
    """A run publishes nothing for what it found; `rejects` are what is known to be refused, where the run tells."""

    rejects: Sequence[SourceReject] = ()


class UnbalancedBooksError(RefusedRunError):
    """What was found and what became of it do not add up."""


def check_images(desk: Desk) -> None:
    """Every image that was listed (``images``) has one outcome (``states``).

    Raises:
        UnbalancedBooksError: some keys have none, several, or were never listed; the message names them.
    """
    faults = {
        "without an outcome": "SELECT DISTINCT key FROM images ANTI JOIN states USING (key)",
        "with several outcomes": "SELECT key FROM states GROUP BY key HAVING count(*) > 1",
        "with an outcome but not listed": "SELECT DISTINCT key FROM states ANTI JOIN images USING (key)",
        "listed more than once": "SELECT key FROM images GROUP BY key HAVING count(*) > 1",
    }
    said = [told for what, sql in faults.items() if (told := _found(desk, sql, what))]
    if said:
        listed = desk.value("SELECT count(DISTINCT key) FROM images")
        raise UnbalancedBooksError(
            f"The books do not balance: {listed} images were found; {'; '.join(said)}.",
            "Nothing was published. Run the command again: what is missing is done anew.",
        )


def check_outputs(desk: Desk) -> None:
    """Every image that was not refused has every output of the recipe (``definitions``).

    Raises:
        UnbalancedBooksError: some lack one; the message names them.
    """
    lacking = (
        "SELECT output || ' of ' || key AS key FROM (SELECT key, sha256, output FROM states, definitions"
        " WHERE status = 'ok') ANTI JOIN outputs USING (sha256, output)"
    )
    if told := _found(desk, lacking, "outputs were not drawn"):
        raise UnbalancedBooksError(
            f"The books do not balance: {told}.",
            "Nothing was published. Run the command again: what is missing is done anew.",
        )


def check_counts(what: str, counts: Mapping[str, int]) -> None:
    """Every file that was listed, and every catalogue row that was read, has one outcome.

    Args:
        what: is counted, in the plural.
        counts: ``found``, and the number by outcome.

    Raises:
        UnbalancedBooksError: they don't add up.
    """
    outcomes = {name: count for name, count in counts.items() if name != "found"}
    if counts["found"] != sum(outcomes.values()):
        raise UnbalancedBooksError(
            f"The books do not balance: {counts['found']} {what} were found, their outcomes are {outcomes}.",
            "Nothing was published. Please report this with your source: it is a fault of Lookbook.",
        )


def check_differences(what: str, counts: Mapping[str, int]) -> None:
    """Everything of two snapshots is unchanged, changed, or in one of them alone.

    Args:
        what: is compared, in the plural.
        counts: found ``before`` and ``after``; ``unchanged``, ``changed``, ``added`` and ``removed`` of these.

    Raises:
        UnbalancedBooksError: they don't add up.
    """
    both = counts["unchanged"] + counts["changed"]
    if (counts["before"], counts["after"]) != (both + counts["removed"], both + counts["added"]):
        raise UnbalancedBooksError(
            f"The books do not balance: of {what}, {dict(counts)}.",
            "Nothing is told of what differs. A key that a table has twice may be the cause; else please report it: it "
            "is a fault of Lookbook.",
        )


def check_reject_limit(counts: Mapping[str, int], rejected: Mapping[str, str], limit: float) -> None:
    """No larger share of the images may be refused than the run allows.

    Args:
        counts: images ``found`` and ``rejected``.
        rejected: the rule by which each was refused, by key.
        limit: the share, 0 to 1.

    Raises:
        LookbookError: more were refused; the message counts them by rule and names the first.
    """
    if counts["found"] and counts["rejected"] > limit * counts["found"]:
        by_rule = ", ".join(f"{count} {rule}" for rule, count in sorted(Counter(rejected.values()).items()))
        share = counts["rejected"] / counts["found"]
        raise LookbookError(
            f"{counts['rejected']} of {counts['found']} images ({share:.1%}) were rejected: {by_rule} "
            f"({_some([f'{key}: {rule}' for key, rule in sorted(rejected.items())])}); "
            f"--reject-limit is {limit:g}. Nothing was published.",
            f"{_mending(set(rejected.values()))}, or allow more with --reject-limit: 1 publishes all the same.",
        )


def _mending(rules: set[str]) -> str:
    limits = sorted(limit for rule, limit in RECIPE_RULES.items() if rule in rules)
    return f"Mend the source, or the recipe's {', '.join(limits)}" if limits else "Mend the source"


def _found(desk: Desk, keys: str, what: str) -> str:
    """Say how many keys a query of ours gives, and name the first; "" where there is none."""
    ((count, first),) = desk.rows(f"SELECT count(*), min(key, {NAMED}) FROM ({keys})")  # noqa: S608
    return f"{count} {what} ({_some(first, count)})" if count else ""


def _some(keys: Sequence[str], count: int | None = None) -> str:
    more = (len(keys) if count is None else count) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")
