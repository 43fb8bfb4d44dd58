"""Recipes of exports: what is made of an original on the fly, step by step."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lookbook.blocks.errors import UsageError
from lookbook.tasks.images.recipe import DRAWING_VERSION, codec_versions

#: Raise it when the steps give other pixels than before: exports of another version have other ids.
STEPS_VERSION = 1
#: In the place of an output: the files as they came.
ORIGINALS = "originals"
MOST_PIXELS = 4096

Edge = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Size = Annotated[
    Edge | Annotated[tuple[Edge, Edge], Field(description="Width and height.")],
    Field(description="Edge in pixels of a square, or width and height."),
]
Probability = Annotated[float, Field(ge=0, le=1, description="How often the step is done.")]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Factor = Annotated[float, Field(ge=0, le=1)]


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resize(_Step):
    """Scale the whole image: ``shorter`` or ``longer`` edge to a size, ``stretch`` to both, or fit in a ``border``."""

    step: Literal["resize"]
    size: Size
    mode: Literal["shorter", "longer", "stretch", "border"] = "shorter"


class Crop(_Step):
    """Cut a part out and scale it to a size.

    ``center``: the largest part of that shape in the middle. ``random``: a part that holds a share of the area between
    `scale` and has a shape between `ratio` (width by height), as in the training of Inception (Szegedy et al., 2015);
    where none of ten draws fits, the largest part in the middle of a shape that is allowed.
    """

    step: Literal["crop"]
    size: Size
    mode: Literal["center", "random"] = "center"
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    ratio: tuple[Annotated[float, Field(ge=0.01, le=100)], Annotated[float, Field(ge=0.01, le=100)]] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _in_order(self) -> Crop:
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1]:
            raise ValueError("scale and ratio go from the smaller number to the larger one")
        return self


class Flip(_Step):
    """Mirror the image."""

    step: Literal["flip"]
    direction: Literal["horizontal", "vertical"] = "horizontal"
    probability: Probability = 0.5


class Rotate(_Step):
    """Turn the image about its middle by an angle between these; its size stays, corners get the background."""

    step: Literal["rotate"]
    degrees: tuple[Annotated[float, Field(ge=-360, le=360)], Annotated[float, Field(ge=-360, le=360)]] = (-10, 10)
    probability: Probability = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Rotate:
        if self.degrees[0] > self.degrees[1]:
            raise ValueError("degrees go from the smaller number to the larger one")
        return self


class ColourJitter(_Step):
    """Change brightness, contrast and saturation by factors of 1 ± these, and the hue by a share of its circle."""

    step: Literal["colour_jitter"]
    brightness: Factor = 0.2
    contrast: Factor = 0.2
    saturation: Factor = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    probability: Probability = 1.0


class Normalise(_Step):
    """Levels of 0 to 1, minus a mean, by a deviation: of each channel, or one for all. The last step, for npy only."""

    step: Literal["normalise"]
    mean: Annotated[list[float], Field(min_length=1, max_length=3)] = [0.485, 0.456, 0.406]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=3)] = [0.229, 0.224, 0.225]


Step = Annotated[Resize | Crop | Flip | Rotate | ColourJitter | Normalise, Field(discriminator="step")]
_RANDOM = (Flip, Rotate, ColourJitter)


class ExportRecipe(BaseModel):
    """What is made of each original: steps, one after the other, then a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[list[Step], Field(min_length=1, max_length=20, description="Done one after the other.")]
    colour_mode: Annotated[Literal["rgb", "grey"], Field(description="sRGB, or 8-bit grey.")] = "rgb"
    encode_format: Annotated[
        Literal["jpeg", "png", "webp", "npy"],
        Field(description="npy: an array of float32 levels, shape (channels, height, width)."),
    ] = "jpeg"
    encode_quality: Annotated[int, Field(ge=0, le=100, description="Quality; for png zlib's level, 0 to 9.")] = 90
    background: Annotated[Colour, Field(description="Behind borders, turned corners and transparency.")] = "#ffffff"
    speed: Annotated[
        Literal["fast", "exact"], Field(description="fast: a JPEG is decoded near the size needed; exact: whole.")
    ] = "fast"

    @field_validator("steps")
    @classmethod
    def _normalise_comes_last(cls, steps: list[Step]) -> list[Step]:
        if any(isinstance(step, Normalise) for step in steps[:-1]):
            raise ValueError("normalise is the last step")
        return steps

    @model_validator(mode="after")
    def _floats_need_arrays(self) -> ExportRecipe:
        last = self.steps[-1]
        if isinstance(last, Normalise):
            if self.encode_format != "npy":
                raise ValueError(f"normalise gives numbers that no {self.encode_format} holds: say encode_format: npy")
            channels = {len(last.mean), len(last.std)} - {1}
            if channels - {1 if self.colour_mode == "grey" else 3}:
                raise ValueError("normalise takes one mean and std, or one for each channel")
        return self

    @property
    def extension(self) -> str:
        """The extension of its files, without the dot."""
        return {"jpeg": "jpg"}.get(self.encode_format, self.encode_format)

    @property
    def is_random(self) -> bool:
        """Return whether two copies of one image may differ."""
        return any(
            isinstance(step, _RANDOM) or (isinstance(step, Crop) and step.mode == "random") for step in self.steps
        )

    def plain(self) -> ExportRecipe:
        """Return the same without what is random: crops from the middle, nothing flipped, turned or jittered."""
        steps = [
            step.model_copy(update={"mode": "center"}) if isinstance(step, Crop) else step
            for step in self.steps
            if not isinstance(step, _RANDOM)
        ]
        return self.model_copy(update={"steps": steps}) if steps else self.model_copy(update={"steps": [_AS_IT_IS]})

    def digest(self) -> str:
        """Return sixteen hex digits that change when the bytes of its files may change."""
        made_of = {"recipe": self.model_dump(mode="json")} | pixel_versions()
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


#: A step that changes nothing.
_AS_IT_IS = Flip(step="flip", probability=0.0)


def pixel_versions() -> dict[str, Any]:
    """Return the versions of all that makes pixels."""
    return {"drawing": DRAWING_VERSION, "steps": STEPS_VERSION, "codec": codec_versions()}


def built_in(name: str) -> ExportRecipe | None:
    """Return the recipe of a name such as ``square-224``; None if it is none of these.

    - ``square-N``: the middle, scaled to N × N.
    - ``border-N``: the whole image within N × N, on white.
    - ``train-N``: a random crop of 8 to 100 percent of the area, scaled to N × N, half of them mirrored, with jitter.
    - ``tensor-N``: as ``square-N``, as float32 with ImageNet's mean and deviation.
    """
    found = re.fullmatch(r"(square|border|train|tensor)-([1-9][0-9]{0,3})", name)
    if found is None or int(found[2]) > MOST_PIXELS:
        return None
    size = int(found[2])
    square = {"step": "crop", "size": size}
    documents: dict[str, dict[str, Any]] = {
        "square": {"steps": [square]},
        "border": {"steps": [{"step": "resize", "size": size, "mode": "border"}]},
        "train": {"steps": [square | {"mode": "random"}, {"step": "flip"}, {"step": "colour_jitter"}]},
        "tensor": {"steps": [square, {"step": "normalise"}], "encode_format": "npy"},
    }
    return ExportRecipe.model_validate(documents[found[1]])


def read_export_recipe(path: Path) -> ExportRecipe:
    """Read a recipe from a YAML or JSON file.

    Raises:
        UsageError: the file is missing, or something in it is no recipe; the message names the field.
    """
    try:
        return ExportRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--recipe {path}: {error}.", "It takes a name such as square-224, or a YAML file.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--recipe {path}: not YAML: {error}.") from error
    except ValidationError as error:
        raise UsageError(f"--recipe {path}: {told(error)}.", "See docs/exports.md for the steps.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--recipe {path}: {error}.", "See docs/exports.md for the steps.") from error


def told(error: ValidationError) -> str:
    """Return what is wrong, with the names of the fields."""
    faults = (
        (".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()
    )
    return "; ".join(dict.fromkeys(f"{place}: {text}" if place else text for place, text in faults))
