"""The recipe: which outputs are drawn from an image, and which images are refused."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pi_heif
import PIL
import simplejpeg
import yaml
from PIL import features
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lookbook.blocks.errors import UsageError
from lookbook.tasks.runs.parameters import described

#: Raise it when drawing or measuring changes: outputs of another version are made anew, beside the old.
DRAWING_VERSION = 3

ResizeMode = Literal["border", "keep_ratio", "keep_ratio_largest", "center_crop", "no"]
EncodeFormat = Literal["jpeg", "png", "webp", "avif"]
Speed = Annotated[
    Literal["fast", "exact"],
    Field(description="fast: a JPEG is decoded near the size needed; exact: every pixel is decoded and weighed."),
]

EXTENSIONS: dict[str, str] = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}


class OutputDefinition(BaseModel):
    """One output of every image. Option names and their meaning are those of img2dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: Annotated[int, Field(ge=1, le=8192, description="Edge length in pixels.")] = 512
    resize_mode: Annotated[
        ResizeMode,
        Field(
            description="border: fit and pad to a square; keep_ratio: shorter edge; keep_ratio_largest: longer edge."
        ),
    ] = "border"
    resize_only_if_bigger: Annotated[bool, Field(description="Never scale up.")] = False
    colour_mode: Annotated[Literal["rgb", "grey"], Field(description="sRGB, or 8-bit grey (mode L).")] = "rgb"
    encode_format: Annotated[EncodeFormat, Field(description="File format of the output.")] = "jpeg"
    encode_quality: Annotated[
        int, Field(ge=0, le=100, description="Quality; for png zlib's level, 0 to 9 (more means 6).")
    ] = 90
    background: Annotated[
        str, Field(pattern=r"^#[0-9a-fA-F]{6}$", description="Colour behind borders and transparency.")
    ] = "#ffffff"
    exif: Annotated[
        Literal["drop", "keep", "keep_with_gps"], Field(description="Whether the file carries the original's EXIF.")
    ] = "drop"
    speed: Speed = "fast"

    @field_validator("resize_mode", mode="before")
    @classmethod
    def _no_is_a_mode(cls, mode: object) -> object:
        """YAML reads a bare ``no`` as false."""
        return "no" if mode is False else mode

    @property
    def extension(self) -> str:
        """The extension of an output's file, without the dot."""
        return EXTENSIONS[self.encode_format]

    def digest(self) -> str:
        """Return sixteen hex digits that change when the bytes of this output may change.

        They cover the definition, the version of the drawing code and the build of the codec.
        """
        made_of = {"definition": self.model_dump(), "drawing": DRAWING_VERSION, "codec": codec_versions()}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _default_outputs() -> dict[str, OutputDefinition]:
    return {
        "standard": OutputDefinition(),
        "grey": OutputDefinition(colour_mode="grey"),
        "thumb": OutputDefinition(image_size=128),
    }


def _shown_outputs() -> dict[str, dict[str, Any]]:
    """Return the default outputs as a form shows them: what differs from the defaults of an output."""
    return {name: output.model_dump(exclude_unset=True) for name, output in _default_outputs().items()}


OutputName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Recipe(BaseModel):
    """What is made of each image. The defaults make a 512 pixel standard and grey copy and a thumbnail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outputs: Annotated[
        dict[OutputName, OutputDefinition],
        Field(
            min_length=1,
            description="What to draw, by name, as JSON. {} is a 512 pixel JPEG; or say image_size, resize_mode "
            "(border, keep_ratio, keep_ratio_largest, center_crop, no), colour_mode (rgb, grey), encode_format "
            "(jpeg, png, webp, avif), encode_quality, …: docs/recipes.md lists all.",
            json_schema_extra={"default": _shown_outputs()},
        ),
    ] = Field(default_factory=_default_outputs)
    speed: Speed = "fast"
    min_image_size: Annotated[
        int, Field(ge=0, description="Refuse images whose shorter edge is below this, in pixels.")
    ] = 0
    max_image_area: Annotated[int, Field(ge=1, description="Refuse images of more pixels than this.")] = 150_000_000
    max_aspect_ratio: Annotated[
        float | None,
        Field(
            ge=1,
            description="Refuse images whose edges differ by more than this factor (1 or more).",
        ),
    ] = None
    max_file_bytes: Annotated[int, Field(ge=1, description="Refuse files of more bytes than this.")] = 256 * 1024 * 1024
    max_seconds: Annotated[
        float,
        Field(
            ge=0.001,
            le=3600,
            description="Refuse images that take longer to draw, in seconds (0.001 to 3,600).",
        ),
    ] = 60
    keep_gps: Annotated[bool, Field(title="Keep GPS", description="Keep GPS positions in the EXIF fields.")] = False
    keep_maker_notes: Annotated[bool, Field(description="Keep the camera maker's private notes.")] = False
    damaged: Annotated[
        Literal["keep", "flag", "reject"],
        Field(
            description="Images whose decoder warns of damage within: keep them, flag them as an issue, or refuse them."
        ),
    ] = "flag"
    suffixed_images: Annotated[
        bool,
        Field(description="Files named like a product, then _ or - and more, are its images, too: 101_1, 101-back."),
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _outputs_take_the_recipes_speed(cls, values: object) -> object:
        """Fill in the recipe's speed for outputs that do not say their own."""
        if not isinstance(values, dict) or "speed" not in values:
            return values
        outputs = values.get("outputs", _default_outputs())
        if not isinstance(outputs, dict):
            return values
        speed = {"speed": values["speed"]}
        plain = {
            name: output.model_dump(exclude_unset=True) if isinstance(output, OutputDefinition) else output
            for name, output in outputs.items()
        }
        taken = {name: speed | output if isinstance(output, dict) else output for name, output in plain.items()}
        return values | {"outputs": taken}

    def rules_digest(self) -> str:
        """Return sixteen hex digits that change when an image may be refused, or described, otherwise than before."""
        made_of = self.model_dump(mode="json", exclude={"outputs", "suffixed_images"})
        # An image of which some output would be beyond all measure is refused, so their sizes are rules too.
        made_of["sizes"] = [
            (name, output.image_size, output.resize_mode, output.resize_only_if_bigger, output.encode_format)
            for name, output in sorted(self.outputs.items())
        ]
        made_of |= {"drawing": DRAWING_VERSION, "codec": codec_versions()}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]

    def lifts_limits_of(self, other: Recipe) -> bool:
        """Return whether this recipe takes every image that another one takes, and makes and says the same of it."""
        least = self.min_image_size <= other.min_image_size
        most = all(getattr(self, name) >= getattr(other, name) for name in _MOST)
        ratios = [recipe.max_aspect_ratio or math.inf for recipe in (self, other)]
        damaged = other.damaged in ("reject", self.damaged)
        limits = {name: getattr(other, name) for name in ("min_image_size", "max_aspect_ratio", "damaged", *_MOST)}
        return least and most and ratios[0] >= ratios[1] and damaged and self.model_copy(update=limits) == other


#: The limits of a recipe that refuse what is above them.
_MOST = ("max_image_area", "max_file_bytes", "max_seconds")

#: A flow's parameter: without a recipe, the default one.
RecipeOrDefault = Annotated[
    Recipe | None,
    described(
        "Recipe", "Sizes, formats and limits. None: a standard and a grey copy of 512 pixels, and a thumbnail of 128."
    ),
]


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries that decode and encode pixels."""
    named = {
        name: features.version(name)
        for name in ("jpg", "libjpeg_turbo", "zlib", "webp", "avif", "littlecms2", "libtiff", "jpg_2000")
    }
    others = {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__, "libheif": pi_heif.libheif_version()}
    return others | {name: version or "" for name, version in named.items()}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML or JSON file.

    Raises:
        UsageError: the file is missing, or something in it is not a recipe; the message names the field.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return Recipe.model_validate({} if (read := yaml.safe_load(text)) is None else read)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--recipe {path}: {error}.", "It takes a YAML or JSON file.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--recipe {path}: not YAML: {error}.") from error
    except ValidationError as error:
        faults = "; ".join(dict.fromkeys(_fault(dict(fault)) for fault in error.errors()))
        raise UsageError(f"--recipe {path}: {faults}.", "See docs/recipes.md for the fields.") from error
    except ValueError as error:  # YAML reads what looks like a date as one
        raise UsageError(f"--recipe {path}: {error}.", "See docs/recipes.md for the fields.") from error


def _fault(fault: dict[str, Any]) -> str:
    """Return what is wrong with one field, for who wrote the file."""
    place = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        fields = Recipe.model_fields if len(place) == 1 else OutputDefinition.model_fields
        near = difflib.get_close_matches(place[-1], fields, n=1)
        return f"{'.'.join(place)}: there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    return f"{'.'.join(place) or 'the file'}: {fault['msg']}"
