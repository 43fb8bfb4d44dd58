"""Recipes: what their digests depend on, and what is said of a file that is none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import lookbook.tasks.images.recipe
from lookbook.blocks.errors import UsageError
from lookbook.tasks.images.recipe import OutputDefinition, Recipe, codec_versions, read_recipe

#: Another value than the default for each field.
OTHER_OUTPUT: dict[str, Any] = {
    "image_size": 511,
    "resize_mode": "keep_ratio",
    "resize_only_if_bigger": True,
    "colour_mode": "grey",
    "encode_format": "png",
    "encode_quality": 91,
    "background": "#fffffe",
    "exif": "keep",
    "speed": "exact",
}
OTHER_RULE: dict[str, Any] = {
    "min_image_size": 1,
    "max_image_area": 149_999_999,
    "max_aspect_ratio": 20.0,
    "max_file_bytes": 1000,
    "speed": "exact",
    "max_seconds": 59.0,
    "keep_gps": True,
    "keep_maker_notes": True,
    "damaged": "keep",
}
#: Fields of an output on which it depends whether an image can be drawn at all.
SIZES = {"image_size", "resize_mode", "resize_only_if_bigger", "encode_format"}


def test_the_cases_below_cover_every_field() -> None:
    assert set(OTHER_OUTPUT) == set(OutputDefinition.model_fields)
    assert set(OTHER_RULE) == set(Recipe.model_fields) - {"outputs", "suffixed_images"}


@pytest.mark.parametrize("field", OTHER_OUTPUT)
def test_an_outputs_digest_changes_with_each_field(field: str) -> None:
    other = OutputDefinition(**{field: OTHER_OUTPUT[field]})
    assert other.digest() != OutputDefinition().digest()
    assert len(other.digest()) == 16
    int(other.digest(), 16)


def test_an_outputs_digest_does_not_depend_on_the_order_of_fields() -> None:
    turned = OutputDefinition(**dict(reversed(OTHER_OUTPUT.items())))
    assert turned.digest() == OutputDefinition(**OTHER_OUTPUT).digest()
    assert OutputDefinition(image_size=512).digest() == OutputDefinition().digest(), "a default said aloud"


def test_outputs_take_the_recipes_speed_unless_they_say_another() -> None:
    assert {output.speed for output in Recipe(speed="exact").outputs.values()} == {"exact"}
    recipe = Recipe.model_validate({"speed": "exact", "outputs": {"a": {}, "b": {"speed": "fast", "image_size": 64}}})
    assert {name: output.speed for name, output in recipe.outputs.items()} == {"a": "exact", "b": "fast"}
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe(speed="exact").outputs["thumb"].digest() != Recipe().outputs["thumb"].digest()


@pytest.mark.parametrize("field", OTHER_RULE)
def test_the_rules_digest_changes_with_each_rule(field: str) -> None:
    assert Recipe(**{field: OTHER_RULE[field]}).rules_digest() != Recipe().rules_digest()


def test_which_product_an_image_belongs_to_draws_nothing_anew() -> None:
    assert Recipe(suffixed_images=True).rules_digest() == Recipe().rules_digest()


@pytest.mark.parametrize("field", OTHER_OUTPUT)
def test_the_rules_digest_changes_with_sizes_alone(field: str) -> None:
    before = Recipe(outputs={"thumb": OutputDefinition()}).rules_digest()
    after = Recipe(outputs={"thumb": OutputDefinition(**{field: OTHER_OUTPUT[field]})}).rules_digest()
    assert (after != before) == (field in SIZES)


def test_the_rules_digest_does_not_depend_on_the_order_of_outputs() -> None:
    recipe = Recipe()
    turned = Recipe(outputs=dict(reversed(recipe.outputs.items())))
    assert list(turned.outputs) != list(recipe.outputs)
    assert turned.rules_digest() == recipe.rules_digest()


def test_another_codec_or_drawing_code_changes_every_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {(OutputDefinition().digest(), Recipe().rules_digest())}
    monkeypatch.setattr(lookbook.tasks.images.recipe, "DRAWING_VERSION", 10_000)
    digests.add((OutputDefinition().digest(), Recipe().rules_digest()))
    monkeypatch.undo()
    monkeypatch.setattr(lookbook.tasks.images.recipe, "codec_versions", lambda: {**codec_versions(), "pillow": "0.1"})
    digests.add((OutputDefinition().digest(), Recipe().rules_digest()))
    assert len({output for output, _ in digests}) == 3
    assert len({rules for _, rules in digests}) == 3


def test_a_recipe_comes_back_from_json() -> None:
    recipe = Recipe(outputs={"a": OutputDefinition(**OTHER_OUTPUT)}, **OTHER_RULE)
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert again.rules_digest() == recipe.rules_digest()


def written(folder: Path, text: str | bytes, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    said = {"outputs": {"big": {"image_size": 1024, "colour_mode": "grey"}}, "max_aspect_ratio": 4}
    expected = Recipe(outputs={"big": OutputDefinition(image_size=1024, colour_mode="grey")}, max_aspect_ratio=4)
    assert read_recipe(written(tmp_path, yaml.safe_dump(said))) == expected
    assert read_recipe(written(tmp_path, json.dumps(said), "recipe.json")) == expected


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}"])
def test_a_file_that_says_nothing_is_the_default_recipe(tmp_path: Path, text: str) -> None:
    assert read_recipe(written(tmp_path, text)) == Recipe()


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("min_image_size: -1", ["min_image_size"]),
        ("min_image_size: many", ["min_image_size"]),
        ("max_image_area: 0", ["max_image_area"]),
        ("max_aspect_ratio: 0.5", ["max_aspect_ratio"]),
        ("max_aspect_ratio: .nan", ["max_aspect_ratio"]),
        ("keep_gps: perhaps", ["keep_gps"]),
        ("imagesize: 5", ["imagesize"]),
        ("outputs: {}", ["outputs"]),
        ("outputs: {Big: {}}", ["outputs.Big"]),
        ("outputs: {a/b: {}}", ["outputs.a/b"]),
        ("outputs: {thumb: 3}", ["outputs.thumb"]),
        ("outputs: {thumb: {image_size: 0}}", ["outputs.thumb.image_size"]),
        ("outputs: {thumb: {image_size: 9000}}", ["outputs.thumb.image_size"]),
        ("outputs: {thumb: {resize_mode: squeeze}}", ["outputs.thumb.resize_mode", "keep_ratio_largest"]),
        ("outputs: {thumb: {encode_quality: 101}}", ["outputs.thumb.encode_quality"]),
        ("outputs: {thumb: {background: white}}", ["outputs.thumb.background"]),
        ("outputs: {thumb: {color_mode: grey}}", ["outputs.thumb.color_mode"]),
        ("min_image_size: -1\noutputs: {thumb: {image_size: 0}}", ["min_image_size", "outputs.thumb.image_size"]),
        ("- a list", ["dictionary"]),
        ("outputs: [", ["not YAML"]),
        ("!!python/object/apply:os.getcwd []", ["not YAML"]),
        (b"min_image_size: \xff", ["utf-8"]),
        ("\x00", ["not YAML"]),
    ],
)
def test_what_is_no_recipe_is_a_usage_error_that_names_file_and_field(
    tmp_path: Path, text: str | bytes, fields: list[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_recipe(path)
    assert caught.value.problem.startswith(f"--recipe {path}: ")
    for field in fields:
        assert field in caught.value.problem


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match=f"--recipe {path}"):
            read_recipe(path)


def test_a_bare_no_in_yaml_is_the_mode_no(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("outputs:\n  whole: {resize_mode: no}\n")
    assert read_recipe(path).outputs["whole"].resize_mode == "no"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outputs: {a: {image_sise: 3}}", "outputs.a.image_sise: there is no such field; did you mean image_size?"),
        ("min_imagesize: 3", "min_imagesize: there is no such field; did you mean min_image_size?"),
        ("zzz: 3", "zzz: there is no such field."),
    ],
)
def test_a_misspelt_field_is_told_with_the_nearest(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)):
        read_recipe(path)
