"""Functions that a spec names: found in their files, and never imported to be checked."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from lookbook.tasks.tables.spec.problems import did_you_mean

#: What a function gets of the run, if it has parameters of these names.
GIVEN = ("params", "config", "logical_date")


def check_function(folder: Path, path: str, after: Sequence[str]) -> str:
    """Return what is wrong with ``module:function``, in words; nothing where all is right.

    Args:
        folder: of the spec, which is looked through first.
        path: of the function.
        after: the tasks whose results it takes, each by its name.
    """
    module, _, name = path.partition(":")
    file = module_file(folder, module)
    if file is None:
        return f"there is no module {module} beside the spec, and none is installed"
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        return f"{file.name}{f' line {line}' if line else ''} is no Python: {getattr(error, 'msg', None) or error}"
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    if name not in functions:
        known = {*functions, *_other_names(tree)}
        return "" if name in known else f"{file.name} defines no function {name}{did_you_mean(name, known)}"
    if isinstance(functions[name], ast.AsyncFunctionDef):
        return f"{name} is async; a plain function is asked for"
    decorated = bool(functions[name].decorator_list)  # it may take anything then
    return "" if decorated else _check_parameters(functions[name].args, name, after)


def _other_names(tree: ast.Module) -> set[str]:
    """Return what else a module may call by a name: imported, assigned, defined under a condition."""
    inner = [
        part for each in tree.body if not isinstance(each, ast.FunctionDef | ast.ClassDef) for part in ast.walk(each)
    ]
    values = [part for part in inner if isinstance(part, ast.Assign) and not isinstance(part.value, ast.Constant)]
    names = {part.id for each in values for part in each.targets if isinstance(part, ast.Name)}
    names |= {part.name for part in inner if isinstance(part, ast.FunctionDef)}
    imports = [alias for part in inner if isinstance(part, ast.Import | ast.ImportFrom) for alias in part.names]
    return names | {alias.asname or alias.name for alias in imports}


def module_file(folder: Path, module: str) -> Path | None:
    """Return the file of a module: beside the spec, or installed. No package is imported to look into it."""
    parts = module.split(".")
    beside = folder.joinpath(*parts[:-1], f"{parts[-1]}.py")
    if beside.is_file():
        return beside
    places: list[str] | None = None
    found: ModuleSpec | None = None
    for number in range(len(parts)):
        found = PathFinder.find_spec(".".join(parts[: number + 1]), places)
        if found is None:
            return None
        places = list(found.submodule_search_locations or [])
    origin = found.origin if found is not None else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _check_parameters(found: ast.arguments, name: str, after: Sequence[str]) -> str:
    """Return whether a function can be called with the results of tasks and what the run gives, by name."""
    if found.posonlyargs:
        return f"{name} is called by names, and takes {found.posonlyargs[0].arg} by its place alone"
    positional = [each.arg for each in found.args]
    optional = set(positional[len(positional) - len(found.defaults) :] if found.defaults else [])
    named = [each.arg for each in found.kwonlyargs]
    optional |= {one for one, default in zip(named, found.kw_defaults, strict=True) if default is not None}
    takes = [*positional, *named]
    for task in after:
        if task not in takes and found.kwarg is None:
            return f"{name} takes no {task}, which stands in after; it takes {', '.join(takes) or 'nothing'}"
    given = {*after, *GIVEN}
    for one in takes:
        if one not in given and one not in optional:
            nearest = did_you_mean(one, [*after, *GIVEN]) or f"; it gets {', '.join([*after, *GIVEN])}"
            return f"nothing is given to {name} as {one}{nearest}"
    return ""
