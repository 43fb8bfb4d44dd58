"""The table of rules in docs/pipelines-sources.md names those that extracts set rows aside by, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[4]


def rules_of_the_code() -> Iterator[str]:
    for path in sorted((ROOT / "tasks" / "tables" / "extract").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="UnreadableError" | "InputReject"), args=[rule, *_]):
                    yield from _texts(rule)
                case ast.Assign(targets=[ast.Name(id="rule")], value=rule):
                    yield from _texts(rule)
                case ast.Tuple(elts=[ast.Constant(value=str(rule)), why]) if "_" in rule and _is_sentence(why):
                    yield rule


def _is_sentence(why: ast.expr) -> bool:
    return isinstance(why, ast.JoinedStr) or (isinstance(why, ast.Constant) and " " in str(why.value))


def _texts(rule: ast.expr) -> Iterator[str]:
    match rule:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)


def documented_rules() -> set[str]:
    text = (ROOT / "docs" / "pipelines-sources.md").read_text(encoding="utf-8")
    table = text.partition("## What cannot be read")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {rule for cell in cells for rule in re.findall("`([a-z_]+)`", cell)}


def test_every_rule_is_documented_and_every_documented_rule_is_used() -> None:
    assert set(rules_of_the_code()) == documented_rules()
