"""The JSON Schema of specs, by which editors complete and check them."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from lookbook.tasks.tables.spec.reading import FREE
from lookbook.tasks.tables.spec.values import Strict

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def schema_text(model: type[BaseModel], title: str) -> str:
    """Return the JSON Schema of a file that is read as `model`, as text."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Described)
    whole: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": title}
    whole["patternProperties"] = {f"^{re.escape(FREE)}": {}} | whole.get("patternProperties", {})
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _Described(GenerateJsonSchema):
    """Takes the descriptions of fields from the docstrings of their models, and lets keys be as their patterns say."""

    def model_schema(self, schema: Any) -> Any:  # noqa: ANN401 - core schemas
        """See `GenerateJsonSchema.model_schema`."""
        found = super().model_schema(schema)
        kinds = [each for each in schema["cls"].__mro__ if each.__doc__ and issubclass(each, Strict)]
        parts = [inspect.cleandoc(each.__doc__).partition("\n\nAttributes:\n") for each in kinds]
        said = {
            name: " ".join(words.split()) for *_, rest in reversed(parts) for name, words in _ATTRIBUTE.findall(rest)
        }
        by_name = {field.alias or name: name for name, field in schema["cls"].model_fields.items()}
        for key, part in found.get("properties", {}).items():
            if (words := said.get(by_name.get(key, key))) and "description" not in part:
                part["description"] = words.replace("``", '"')
        return found | {"description": " ".join(parts[0][0].split()).replace("``", '"')}

    def dict_schema(self, schema: Any) -> Any:  # noqa: ANN401 - core schemas
        """See `GenerateJsonSchema.dict_schema`."""
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found

    def get_title_from_name(self, name: str) -> str:
        """See `GenerateJsonSchema.get_title_from_name`."""
        return name

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - core schemas
        """Names of fields stand for themselves."""
        return False
