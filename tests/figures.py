"""Print the figures of the house: ``make figures``. How large it is, how fragmented, and what runs in a circle."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[1]
FOLDERS = ("blocks", "tasks", "flows", "deployments", "lookbook")
#: The verbs that docstrings begin with here; a new one is added when it is first used.
VERBS = set(
    re.findall(
        r"\w+",
        """
        Add Answer Ask Attach Bring Call Cancel Check Choose Close Compare Copy Count Create Decode Deploy Describe
        Do Draw Drop End Enter Export Fail Fetch Find Finish Forget Give Group Have Hear Hold Import Ingest Join
        Keep Leave Let List Listen Load Look Make Mark Mend Move Note Open Plan Print Put Raise Read Refuse Register
        Remember Remove Replace Return Revoke Run Save Say See Send Serve Set Show Start Store Take Tell Turn Unify
        Verify Wait Warn Write Yield
        """,
    )
)


@dataclass(frozen=True)
class Module:
    """A module of production: its dotted name, and its text."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Yield all functions and methods."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def imports(self) -> Iterator[str]:
        """Yield the names that it imports from this package, wherever it does."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name.startswith("lookbook."))
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lookbook"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_modules() -> dict[str, Module]:
    """Read all modules of production, by their names."""
    found = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(("lookbook", *(part for part in parts if part not in ("__init__", "lookbook"))))
        found[name] = Module(name, path.read_text(encoding="utf-8"))
    return found


def helpers_used_once(module: Module) -> int:
    """Count private functions at the top of a module whose name stands in one more place only."""
    private = [node.name for node in module.tree.body if isinstance(node, ast.FunctionDef) and node.name[0] == "_"]
    names = Counter(node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name))
    return sum(names[name] == 1 for name in private)


def docstrings(module: Module) -> Iterator[str]:
    """Yield the docstrings of public functions and methods; a property is named as what it is."""
    for function in module.functions():
        text = ast.get_docstring(function)
        if (
            text
            and not function.name.startswith("_")
            and not any("property" in ast.dump(d) for d in function.decorator_list)
        ):
            yield text


def circles(modules: dict[str, Module], *, wings: bool) -> list[list[str]]:
    """Return what imports itself by way of others: modules, or the folders of `tasks` and the four floors."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module in modules.values():
        for name in module.imports():
            target = name if name in modules else name.rpartition(".")[0]
            edge = (_wing(module.name), _wing(target)) if wings else (module.name, target)
            if edge[0] != edge[1]:
                graph.add_edge(*edge)
    return sorted(sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1)


def _wing(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[1:3] if parts[1:2] == ["tasks"] else parts[1:2])


def installed_mb() -> float:
    """Return the size of all that requirements.txt pins, in megabytes, as far as it is installed here."""
    size = 0
    for name in re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE):
        try:
            size += sum(place.stat().st_size for file in files(name) or () if (place := Path(file.locate())).is_file())
        except PackageNotFoundError:  # of another platform
            continue
    return size / 1e6


def main() -> None:
    """Print one figure a line."""
    modules = read_modules()
    lines = sum(module.text.count("\n") for module in modules.values())
    once = sum(map(helpers_used_once, modules.values()))
    first = [text.split()[0].rstrip(".,:;") for module in modules.values() for text in docstrings(module)]
    classes = defaultdict(set)
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(module.name)
    twice = sorted(name for name, where in classes.items() if len(where) > 1)
    verbs = sum(word in VERBS for word in first)
    tests = sum(path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tests").rglob("*.py"))
    figures = {
        "production modules / lines": f"{len(modules)} / {lines:,}",
        "private helpers used once, a thousand lines": f"{1000 * once / lines:.1f}",
        "public docstrings that begin with a verb": f"{100 * verbs / len(first):.0f} %",
        "class names of several modules": f"{len(twice)}: {', '.join(twice)}",
        "import circles: files": circles(modules, wings=False),
        "import circles: wings": circles(modules, wings=True),
        "required dependencies' install": f"{installed_mb():.0f} MB",
        "tests' lines": f"{tests:,}",
    }
    sys.stdout.writelines(f"{name}: {figure}\n" for name, figure in figures.items())


if __name__ == "__main__":
    main()
