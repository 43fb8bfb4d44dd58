"""What `terraform validate` would say, as far as it can be known without the provider.

Names that are used exist and names that exist are used; arguments and blocks are those of the provider's schema
(google-schema.json), required ones are given, and plain values have their types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("google-schema.json")
#: What every resource takes.
META = {"count", "for_each", "depends_on", "lifecycle", "provider"}
TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "number": (int, float), "boolean": bool}

_REFERENCE = re.compile(r"(?<![\w.-])(?:(data|ephemeral)\.)?((?:google|random)_\w+)\.(\w+)(?:\[[^]]*\])?(?:\.(\w+))?")
_NAME = re.compile(r"(?<![\w.-])(var|local)\.(\w+)")


@dataclass
class Module:
    """A folder of Terraform: bodies by address, such as ``resource google_storage_bucket.lake``."""

    blocks: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)


def read_module(folder: Path) -> Module:
    """Parse all files of a folder.

    Raises:
        ValueError: a file is no HCL; the message names it.
    """
    import hcl2  # noqa: PLC0415 - only the environment of the checkers has it

    module = Module()
    for path in sorted(folder.glob("*.tf")):
        try:
            parsed = hcl2.loads(path.read_text(encoding="utf-8"))
        except Exception as error:  # the parser raises kinds of its own
            raise ValueError(f"{path.name}: {error}") from error
        add_file(module, parsed)
    return module


def add_file(module: Module, parsed: dict[str, Any]) -> None:
    """Sort what a file declares into the module."""
    for kind in ("resource", "data", "ephemeral"):
        labelled = [(name, bodies) for entry in parsed.get(kind, []) for name, bodies in entry.items()]
        for name, bodies in labelled:
            for label, body in bodies.items():
                _add(module, module.blocks, f"{kind} {name}.{label}", body)
    for kind, into in (("variable", module.variables), ("output", module.outputs)):
        for entry in parsed.get(kind, []):
            for name, body in entry.items():
                _add(module, into, name, body)
    values = [pair for entry in parsed.get("locals", []) for pair in entry.items()]
    for name, value in values:
        if not name.startswith("__"):
            _add(module, module.values, name, value)
    module.others += [parsed.get(kind, []) for kind in ("provider", "terraform", "check", "moved", "import")]


def _add(module: Module, into: dict[str, Any], name: str, body: object) -> None:
    if name in into:
        module.twice.append(name)
    into[name] = body


def faults(module: Module, schema: dict[str, Any]) -> list[str]:
    """All that is wrong with a module, a line for each."""
    found = [f"{name}: declared twice" for name in module.twice]
    found += [f"{name}: says not what it is" for name in _undescribed(module)]
    found += _names(module)
    found += _references(module, schema)
    for address, body in module.blocks.items():
        kind, _, rest = address.partition(" ")
        resource = rest.split(".")[0]
        if kind == "ephemeral" or not resource.startswith("google_"):
            continue
        known = schema.get(f"{kind} {resource}")
        if known is None:
            found.append(f"{address}: not in google-schema.json; run infra.checks.provider_schema")
            continue
        given = {key: value for key, value in body.items() if key not in META}
        found += [f"{address}: {fault}" for fault in _body(given, known["arguments"])]
    return found


def _undescribed(module: Module) -> Iterator[str]:
    for kind, declared in (("var", module.variables), ("output", module.outputs)):
        yield from (f"{kind}.{name}" for name, body in declared.items() if not body.get("description"))


def _names(module: Module) -> Iterator[str]:
    declared = {("var", name) for name in module.variables} | {("local", name) for name in module.values}
    used = _found(_NAME, _expressions(module))
    within = _found(_NAME, list(module.variables.values()))
    yield from (f"{kind}.{name}: not declared" for kind, name in sorted((used | within) - declared))
    yield from (f"{kind}.{name}: not used" for kind, name in sorted(declared - used))


def _references(module: Module, schema: dict[str, Any]) -> Iterator[str]:
    for kind, resource, label, attribute in sorted(_found(_REFERENCE, _expressions(module))):
        address = f"{kind or 'resource'} {resource}.{label}"
        known = schema.get(f"{kind or 'resource'} {resource}")
        if address not in module.blocks:
            yield f"{address}: used, and not declared"
        elif attribute and known and attribute not in {*known["attributes"], *known["arguments"]}:
            yield f"{address}: has no {attribute}"


def _expressions(module: Module) -> list[Any]:
    """All that may name something else, apart from the variables' own rules."""
    return [*module.blocks.values(), *module.outputs.values(), *module.values.values(), *module.others]


def _found(pattern: re.Pattern[str], values: list[Any]) -> set[tuple[str, ...]]:
    return {match.groups(default="") for text in _texts(values) for match in pattern.finditer(text)}


def _body(body: dict[str, Any], known: dict[str, Any]) -> Iterator[str]:
    """Compare a body with the arguments that its schema knows, and so its blocks."""
    given = {key: value for key, value in body.items() if not key.startswith("__") and key != "dynamic"}
    made = [pair for entry in body.get("dynamic", []) for pair in entry.items()]
    given |= {key: block["content"] for key, block in made}
    yield from (f"no argument {key}" for key in given.keys() - known.keys())
    yield from (f"{key} is missing" for key in known if known[key].get("required") and key not in given)
    for key, value in given.items():
        if key not in known:
            continue
        inner = known[key].get("block")
        if inner is None:
            yield from _value(key, value, known[key]["type"])
            continue
        if known[key].get("single") and len(value) > 1:
            yield f"{key}: given {len(value)} times"
        for block in value:
            yield from (f"{key}: {fault}" for fault in _body(block, inner))


def _value(key: str, value: Any, wanted: str) -> Iterator[str]:  # noqa: ANN401 - what HCL can say
    [plain] = value if isinstance(value, list) and len(value) == 1 else [value]
    if isinstance(plain, str) and "${" in plain:
        return
    expected = TYPES.get(wanted)
    right = isinstance(plain, list) if wanted.startswith("list") else isinstance(plain, expected or object)
    if not right or (wanted == "number" and isinstance(plain, bool)):
        yield f"{key}: {plain!r} is no {wanted}"


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - what HCL can say
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield str(key)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def check(folder: Path) -> list[str]:
    """All that is wrong with the files of a folder."""
    try:
        module = read_module(folder)
    except ValueError as error:
        return [str(error)]
    return faults(module, json.loads(SCHEMA.read_text(encoding="utf-8")))
