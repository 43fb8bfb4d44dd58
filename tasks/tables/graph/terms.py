"""Terms found as whole words in texts: one automaton for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lookbook.tasks.tables.graph.folding import fold, marked


class Terms:
    """The labels of an entity, to be found in texts.

    Equal terms of two keys both count, and so do terms that overlap. Blanks around a term do not belong to it.

    Args:
        labels: for each key its term.

    Attributes:
        empty: the keys that have no term, and are never found.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        from ahocorasick_rs import AhoCorasick  # noqa: PLC0415 - late: importing the tasks is to be quick

        owners: dict[str, list[str]] = {}
        for key, label in labels.items():
            owners.setdefault(fold(label.strip()), []).append(key)
        self.empty = owners.pop("", [])
        self._owners = list(owners.values())
        self._automaton = AhoCorasick([marked(term) for term in owners], store_patterns=False) if owners else None

    def find(self, text: str) -> dict[str, int]:
        """Return how often each key's term stands in a text; those that do not are left out."""
        if self._automaton is None or not text:
            return {}
        found = self._automaton.find_matches_as_indexes(marked(fold(text)), overlapping=True)
        counts = Counter(pattern for pattern, _, _ in found)
        return {key: count for pattern, count in counts.items() for key in self._owners[pattern]}
