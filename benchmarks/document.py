"""docs/benchmarks.md: one part for each section, so that one can be measured again alone."""

from __future__ import annotations

from collections.abc import Sequence

HEAD = """# Benchmarks

Made by `make bench` alone; `make bench SECTION=imaging` measures one section again. Median, with minimum and maximum
in brackets. The absolute figures are those of the machine that each section names; the ratios travel.
"""


def start_of(name: str) -> str:
    """The line before a section."""
    return f"<!-- section {name} -->\n"


def end_of(name: str) -> str:
    """The line after a section."""
    return f"<!-- end of {name} -->\n"


def read_sections(text: str, names: Sequence[str]) -> dict[str, str]:
    """The sections that a document holds, by name."""
    found = {}
    for name in names:
        _, started, rest = text.partition(start_of(name))
        body, ended, _ = rest.partition(end_of(name))
        if started and ended:
            found[name] = body
    return found


def assemble(sections: dict[str, str], names: Sequence[str]) -> str:
    """The document of these sections, in the order of `names`; those not measured yet are left out."""
    parts = [start_of(name) + sections[name].strip("\n") + "\n" + end_of(name) for name in names if name in sections]
    return "\n".join([HEAD, *parts])
