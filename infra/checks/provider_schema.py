"""Writes google-schema.json: what the provider of Google knows of the resources that infra/terraform names.

Terraform's own `validate` needs the provider, which only a registry of Terraform hands out. The package
cdktn-provider-google on PyPI is generated from the same schema and says its version; its declarations are read here:

    python -m pip download --no-deps cdktn-provider-google==21.1.0
    python -m infra.checks.provider_schema cdktn_provider_google-21.1.0-py3-none-any.whl

For another resource, name it in infra/terraform and run this again.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("google-schema.json")
TERRAFORM = Path(__file__).parents[1] / "terraform"

_INTERFACE = re.compile(r"^export interface (\w+)[^{]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(
    r"/\*\*(?P<said>(?:(?!\*/).)*)\*/\s*readonly (?P<name>\w+)(?P<optional>\?)?: (?P<type>[^;]+);", re.DOTALL
)
_GETTER = re.compile(r"^    get (\w+)\(\)", re.MULTILINE)


def main(wheel: Path) -> None:
    """Read the package of the bindings, and write the schema of what is used."""
    with zipfile.ZipFile(wheel) as package:
        metadata = next(name for name in package.namelist() if name.endswith("/METADATA"))
        said = re.search(r"hashicorp/google provider version (\S+)", package.read(metadata).decode())
        inner = next(name for name in package.namelist() if name.endswith(".jsii.tgz"))
        archive = tarfile.open(fileobj=io.BytesIO(package.read(inner)))  # noqa: SIM115 - lives as long as this call
    schema: dict[str, Any] = {"provider": said[1] if said else "unknown"}
    for kind, prefix in (("resource", ""), ("data", "data-google-")):
        schema |= {f"{kind} {name}": _schema(archive, prefix, name) for name in _used(kind)}
    lines = (f"{json.dumps(name)}: {json.dumps(schema[name], sort_keys=True)}" for name in schema)
    SCHEMA.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")  # a line for each


def _used(kind: str) -> list[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in TERRAFORM.glob("*.tf"))
    return sorted(set(re.findall(rf'^{kind} "(google_\w+)"', text, re.MULTILINE)))


def _schema(archive: tarfile.TarFile, prefix: str, resource: str) -> dict[str, Any]:
    folder = prefix + resource.removeprefix("google_").replace("_", "-")
    member = archive.extractfile(f"package/lib/{folder}/index.d.ts")
    if member is None:
        raise SystemExit(f"{resource}: not in the package")
    text = member.read().decode()
    interfaces = dict(_INTERFACE.findall(text))
    config = next(name for name in interfaces if name.endswith("Config") and f"export interface {name} extends" in text)
    getters = _GETTER.findall(text[text.rindex("\nexport declare class") :])
    return {
        "arguments": _block(interfaces, config),
        "attributes": sorted({_snake(name) for name in getters if not name.endswith("Input")}),
    }


def _block(interfaces: dict[str, str], name: str) -> dict[str, Any]:
    """Return the arguments of a block: for each its type, or the block that it is, and whether it is required."""
    fields: dict[str, Any] = {}
    for field in _FIELD.finditer(interfaces[name]):
        named = re.findall(r"docs/[\w-]+/\w+#(\w+) ", field["said"])
        key = named[-1] if named else _snake(field["name"])
        if key == "timeouts":
            continue
        inner = field["type"].removesuffix(" | cdktn.IResolvable").strip()
        many, inner = inner.endswith("[]"), inner.removesuffix("[]")
        entry: dict[str, Any] = {} if field["optional"] else {"required": True}
        if inner in interfaces:
            entry |= {"block": _block(interfaces, inner)}
            if not many:
                entry |= {"single": True}
        else:
            entry |= {"type": "map" if inner.startswith("{") else f"list of {inner}" if many else inner}
        fields[key] = entry
    return fields


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
