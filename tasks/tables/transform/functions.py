"""Functions that specs name: found beside the spec or where Python finds modules, and called by names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, TypeAlias

from lookbook.blocks.errors import LookbookError

Function: TypeAlias = Callable[..., Any]


class _Fresh(SourceFileLoader):
    """Compiles the file as it stands: compiled copies are known by whole seconds, and would outlive a change."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


@contextmanager
def found(folder: Path, path: str) -> Iterator[Function]:
    """Yield the function ``module:function``, while the block runs.

    A module beside the spec, ``a/b.py`` for ``a.b``, has a private name: two specs may have modules of one name, and
    each run gets the file as it stands. It may import modules of its own folder as ``from . import helpers``.

    Args:
        folder: of the spec.
        path: of the function.

    Raises:
        LookbookError: there is no such module or function, or importing it fails.
    """
    module_name, _, name = path.partition(":")
    file = folder / (module_name.replace(".", "/") + ".py")
    package = f"_lookbook_spec_{uuid.uuid4().hex}"
    try:
        with faults(path, folder, "importing it"):
            module = _beside(package, folder, module_name, file) if file.is_file() else _installed(path, module_name)
        function = getattr(module, name, None)
        if not callable(function):
            raise LookbookError(f"{path}: the module has no function {name}.", "Correct its name.")
        yield function
    finally:
        for loaded in [one for one in sys.modules if one == package or one.startswith(f"{package}.")]:
            del sys.modules[loaded]


def _beside(package: str, folder: Path, module_name: str, file: Path) -> types.ModuleType:
    """Return the module of a file beside the spec, in a package of its own whose folders are those of the spec."""
    parts = module_name.split(".")
    for depth in range(len(parts)):
        parent = types.ModuleType(".".join([package, *parts[:depth]]))
        parent.__path__ = [str(folder.joinpath(*parts[:depth]))]
        sys.modules[parent.__name__] = parent
    name = f"{package}.{module_name}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_Fresh(name, str(file)))
    assert spec is not None  # noqa: S101 - it has a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _installed(path: str, module_name: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise LookbookError(
            f"{path}: there is no module {module_name}, neither beside the spec nor installed.",
            f"Write {module_name.replace('.', '/')}.py beside the spec.",
        ) from None


def arguments(path: str, function: Function, given: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call.

    Args:
        path: of the function.
        function: it.
        given: results of tasks, by their names: the function has to take all of them.
        offered: what it gets if it has parameters of these names.

    Raises:
        LookbookError: it does not take one that is given, or wants one that is not.
    """
    parameters = inspect.signature(function).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    known = {**offered, **given}
    passed = {name: known[name] for name in known if name in parameters or (takes_all and name in given)}
    unknown = [name for name in given if name not in passed]
    if unknown:
        raise LookbookError(
            f"{path} has no parameter {unknown[0]}, which is the name of a task in after.",
            "Name its parameters after the tasks whose results it takes.",
        )
    positional = (inspect.Parameter.POSITIONAL_ONLY,)
    named = [one for one in parameters.values() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    wanted = [
        one.name for one in named if (one.default is one.empty and one.name not in passed) or one.kind in positional
    ]
    if wanted:
        raise LookbookError(
            f"{path} has a parameter {wanted[0]} that nothing is given for.",
            f"There are {', '.join(known)}, each by its name.",
        )
    return passed


@contextmanager
def faults(path: str, folder: Path, doing: str = "it") -> Iterator[None]:
    """Errors of a function as ours: which, and where, without the values that its message may hold.

    Raises:
        LookbookError: as the function raised it, or in place of another error.
    """
    try:
        yield
    except LookbookError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a function of others raises
        frames = traceback.extract_tb(error.__traceback__)
        raise LookbookError(
            f"{path}: {doing} raised {type(error).__name__} {_where(frames, error, folder)}.", _SEE
        ) from None


def _where(frames: traceback.StackSummary, error: Exception, folder: Path) -> str:
    """Return the last place in a file of the spec's folder, and the last one at all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"in {_short(error.filename, folder)} line {error.lineno}"
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    places = [*own[-1:], *(frames[-1:] if not own or frames[-1] is not own[-1] else [])]
    said = [f"in {_short(frame.filename, folder)} line {frame.lineno} ({frame.name})" for frame in places]
    return ", ".join(said)


def _short(filename: str, folder: Path) -> str:
    path = Path(filename)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


_SEE = "Correct the function. What it said is not shown, as it may hold data: call it by hand to see it."
