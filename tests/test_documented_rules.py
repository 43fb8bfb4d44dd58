"""The table of rules in docs/outcomes.md names those that the code rejects images by, and no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.documents import image_rules

ROOT = Path(__file__).parents[1]
#: Where images are refused: rules are the first argument of these calls …
REFUSALS = {"Rejected", "UnreadableMemberError"}
#: … or, where a source is listed, the first of two texts.
LISTING = ROOT / "tasks" / "datasets" / "sources" / "local.py"


def rules_of_the_code() -> Iterator[str]:
    for path in sorted((ROOT / "tasks").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            yield from _texts(_rule(node, listing=path == LISTING))


def _rule(node: ast.AST, *, listing: bool) -> ast.expr | None:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[rule, *_]) if name in REFUSALS:
            return rule
        case ast.Call(func=ast.Name(id="Outcome"), args=[_, _, ast.Constant(value="rejected"), rule, *_]):
            return rule
        case ast.Tuple(elts=[ast.Constant(value=str()) as rule, ast.Constant() | ast.JoinedStr()]) if (
            listing and rule.value
        ):
            return rule
        case _:
            return None


def _texts(rule: ast.expr | None) -> Iterator[str]:
    """The strings that a rule may be: itself, or the two of a condition."""
    match rule:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)


def test_every_rule_is_documented_and_every_documented_rule_is_used() -> None:
    # Those of a batch's child processes are told from a dead or late process.
    assert set(rules_of_the_code()) == image_rules()
