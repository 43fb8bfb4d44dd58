"""Models of ONNX, with their preprocessing declared beside them, and what they say of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookbook.blocks.errors import LookbookError, UsageError, needs_extra
from lookbook.tasks.exports.recipes import ExportRecipe, Step, pixel_versions, told

if TYPE_CHECKING:
    import onnxruntime

#: Raise it when predictions come out otherwise for the same model: those of another version are stored beside.
PREDICTING_VERSION = 1


class ModelSpec(BaseModel):
    """How a model takes images, and what its outputs are: a YAML file of the model's name beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[list[Step], Field(min_length=1, max_length=20, description="As in a recipe.")]
    colour_mode: Literal["rgb", "grey"] = "rgb"
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#ffffff"
    layout: Annotated[Literal["nchw", "nhwc"], Field(description="Order of the input's axes.")] = "nchw"
    input: Annotated[str | None, Field(description="Name of the input. None: the only one.")] = None
    scores: Annotated[str | None, Field(description="Name of the output with a score for each class. None: none.")] = (
        None
    )
    embedding: Annotated[str | None, Field(description="Name of the output with the embedding. None: none.")] = None
    activation: Annotated[Literal["softmax", "none"], Field(description="What makes scores of the output.")] = "softmax"
    labels: Annotated[list[str], Field(max_length=100_000, description="Names of the classes, in order.")] = []
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 32

    def recipe(self) -> ExportRecipe:
        """Return the steps as a recipe that gives arrays: the same pixels whatever the speed of other recipes."""
        return ExportRecipe(
            steps=self.steps, colour_mode=self.colour_mode, background=self.background, encode_format="npy"
        ).plain()


@dataclass(frozen=True)
class Answers:
    """What a model says of some images: label and score of each, and embeddings of shape (images, size)."""

    labels: list[str | None]
    scores: list[float | None]
    embeddings: NDArray[np.float32] | None


class Model:
    """A model, ready to be asked.

    Args:
        name: of its file, for messages.
        data: the ONNX file.
        spec: what is declared beside it.

    Raises:
        LookbookError: the extra ``onnx`` is not installed.
        UsageError: ONNX Runtime can't load it, or it has no such inputs and outputs.
    """

    def __init__(self, name: str, data: bytes, spec: ModelSpec) -> None:
        with needs_extra("onnx", "--predict"):
            import onnxruntime  # noqa: PLC0415 - slow, and an extra
        self.name = name
        self.spec = spec
        made_of: dict[str, Any] = {"model": hashlib.sha256(data).hexdigest(), "spec": spec.model_dump(mode="json")}
        made_of |= {"version": PREDICTING_VERSION, "pixels": pixel_versions(), "runtime": onnxruntime.__version__}
        self.digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        options = onnxruntime.SessionOptions()
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        try:
            self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds have no common base
            text = str(error).splitlines()[0][:300]
            raise UsageError(f"--predict {name}: ONNX Runtime cannot load it: {text}", "Give an ONNX model.") from error
        self._input = self._chosen_input()
        self._outputs = [found for found in (spec.scores, spec.embedding) if found]
        self._check_outputs()

    def ask(self, images: Sequence[NDArray[np.float32]]) -> Answers:
        """Return what the model says of images, each of shape (channels, height, width).

        Every batch that it gets has one size, filled up with zeros: what it says of an image must not depend on how
        many others are asked for.

        Raises:
            LookbookError: the model fails on them, or its outputs have other shapes than are declared.
        """
        size = self._batch_size()
        found = [self._ask_batch(images[start : start + size], size) for start in range(0, len(images), size)]
        labels = [label for answers in found for label in answers.labels]
        scores = [score for answers in found for score in answers.scores]
        embeddings = [answers.embeddings for answers in found if answers.embeddings is not None]
        return Answers(labels, scores, np.concatenate(embeddings) if embeddings else None)

    def _ask_batch(self, images: Sequence[NDArray[np.float32]], size: int) -> Answers:
        batch = np.zeros((size, *images[0].shape), np.float32)
        batch[: len(images)] = images
        given = batch if self.spec.layout == "nchw" else np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        try:
            outputs = self._session.run(self._outputs, {self._input: given})
        except Exception as error:
            text = str(error).splitlines()[0][:300]
            raise LookbookError(f"--predict {self.name}: the model fails: {text}", "See its YAML file.") from error
        by_name = dict(zip(self._outputs, outputs, strict=True))
        labels, scores = self._classified(by_name.get(self.spec.scores or ""), len(images))
        vectors = by_name.get(self.spec.embedding or "")
        if vectors is not None:
            vectors = np.asarray(vectors, np.float32).reshape(size, -1)[: len(images)]
        return Answers(labels, scores, vectors)

    def _classified(self, output: Any, count: int) -> tuple[list[str | None], list[float | None]]:  # noqa: ANN401
        if output is None:
            return [None] * count, [None] * count
        levels = np.asarray(output, np.float64).reshape(len(output), -1)[:count]
        if self.spec.labels and levels.shape[1] != len(self.spec.labels):
            raise UsageError(
                f"--predict {self.name}: it gives {levels.shape[1]} scores, and {len(self.spec.labels)} labels are "
                "declared.",
                "Correct its YAML file.",
            )
        if self.spec.activation == "softmax":
            levels = np.exp(levels - levels.max(axis=1, keepdims=True))
            levels /= levels.sum(axis=1, keepdims=True)
        best = levels.argmax(axis=1)
        names = [self.spec.labels[place] if self.spec.labels else str(place) for place in best.tolist()]
        return list(names), [float(np.float32(levels[row, place])) for row, place in enumerate(best.tolist())]

    def _chosen_input(self) -> str:
        names = [each.name for each in self._session.get_inputs()]
        wanted = self.spec.input or (names[0] if len(names) == 1 else None)
        if wanted is None or wanted not in names:
            raise UsageError(
                f"--predict {self.name}: it has the inputs {', '.join(names)}.", "Name one as input in its YAML file."
            )
        return wanted

    def _check_outputs(self) -> None:
        names = [each.name for each in self._session.get_outputs()]
        if not self._outputs or not set(self._outputs) <= set(names):
            raise UsageError(
                f"--predict {self.name}: it has the outputs {', '.join(names)}.",
                "Name them as scores and embedding in its YAML file.",
            )

    def _batch_size(self) -> int:
        """Return the declared one, unless the model takes no other than its own."""
        shape = next(each.shape for each in self._session.get_inputs() if each.name == self._input)
        return shape[0] if shape and isinstance(shape[0], int) else self.spec.batch_size


def load_model(path: Path) -> Model:
    """Return a model from its file, with the YAML file of the same name beside it.

    Raises:
        UsageError: a file is missing, or is not what it should be; the message names the field.
        LookbookError: the extra ``onnx`` is not installed.
    """
    beside = path.with_suffix(".yaml")
    try:
        data, text = path.read_bytes(), beside.read_text(encoding="utf-8")
        spec = ModelSpec.model_validate(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(
            f"--predict {path}: {error}.", f"Its preprocessing is declared in {beside.name}: docs/exports.md."
        ) from error
    except ValidationError as error:
        raise UsageError(f"--predict {beside}: {told(error)}.", "docs/exports.md shows the fields.") from error
    return Model(path.name, data, spec)
