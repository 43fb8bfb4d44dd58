"""Predictions: a model of ONNX over the images that an export selects."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, UsageError, needs_extra
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.datasets.tags import find_snapshot
from lookbook.tasks.exports.build import AHEAD, in_order, read_checked
from lookbook.tasks.exports.drawing import Job, ask, processes
from lookbook.tasks.exports.filter_columns import columns_of
from lookbook.tasks.exports.plan import DIGEST, KEY, columns_looked_at, resolve, select, with_objects
from lookbook.tasks.exports.recipes import ORIGINALS, ExportRecipe, Step, pixel_versions, told
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import DatasetRows, read_rows
from lookbook.tasks.images import jobs
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.jobs import DoBatches, open_job
from lookbook.tasks.images.pacing import check_not_stopped, stoppable
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.removal import Rule

if TYPE_CHECKING:
    import onnxruntime

#: Raise it when predictions come out otherwise for the same model: those of another version are stored beside.
PREDICTING_VERSION = 1


class OnnxModelSpec(BaseModel):
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


class OnnxModel:
    """A model, ready to be asked.

    Args:
        name: of its file, for messages.
        data: the ONNX file.
        spec: what is declared beside it.

    Raises:
        LookbookError: the extra ``onnx`` is not installed.
        UsageError: ONNX Runtime can't load it, or it has no such inputs and outputs.
    """

    def __init__(self, name: str, data: bytes, spec: OnnxModelSpec) -> None:
        with needs_extra("onnx", "--predict"):
            import onnxruntime  # noqa: PLC0415 - slow, and an extra
        self.name = name
        self.data = data
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


def load_model(path: Path) -> OnnxModel:
    """Return a model from its file, with the YAML file of the same name beside it.

    Raises:
        UsageError: a file is missing, or is not what it should be; the message names the field.
        LookbookError: the extra ``onnx`` is not installed.
    """
    beside = path.with_suffix(".yaml")
    try:
        data, text = path.read_bytes(), beside.read_text(encoding="utf-8")
        spec = OnnxModelSpec.model_validate(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(
            f"--predict {path}: {error}.", f"Its preprocessing is declared in {beside.name}: docs/exports.md."
        ) from error
    except ValidationError as error:
        raise UsageError(f"--predict {beside}: {told(error)}.", "docs/exports.md shows the fields.") from error
    return OnnxModel(path.name, data, spec)


LABEL, SCORE, EMBEDDING = "predicted_label", "predicted_score", "embedding"
#: Whether a row's content was shown to the model: no column of an export.
PREDICTED = ":predicted"
#: Contents in a file of predictions, and in a batch: of those under way a killed run has to do all again.
CHUNK = 2000
#: The model's file beside the batches.
MODEL = "model.onnx"

SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("rule", pa.string()),  # why an image could not be drawn for the model, else null
    ]
)


def folder_of(dataset: str, digest: str) -> str:
    """Return where the predictions of a model lie."""
    return f"datasets/{dataset}/predictions/{digest}"


def old_predictions(lake: Lake, dataset: str, rule: Rule) -> Iterator[str]:
    """Yield the folders of predictions that may go: all of a model's are old."""
    for digest in lake.folders(f"datasets/{dataset}/predictions"):
        if rule.are_old(lake.list(folder_of(dataset, digest))):
            yield folder_of(dataset, digest)


def read_predictions(lake: Lake, dataset: str, digest: str) -> pa.Table:
    """Return all stored predictions of a model, each content once.

    Raises:
        LookbookError: one of their files is damaged.
    """
    keys = sorted(info.key for info in lake.list(folder_of(dataset, digest)) if info.key.endswith(".parquet"))
    tables = []
    for key in keys:
        try:
            tables.append(from_parquet(lake.get(key))[0].cast(SCHEMA))
        except ObjectNotFoundError:
            continue
        except (pa.ArrowException, ValueError) as error:
            raise LookbookError(f"{key} is damaged.", "Remove it, and export with --predict again.") from error
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    return table.take(first_places(table["sha256"]))


def with_predictions(rows: DatasetRows, found: pa.Table) -> DatasetRows:
    """Return the rows with the columns `LABEL`, `SCORE`, `EMBEDDING` and `PREDICTED`."""
    places = pc.index_in(rows.table["sha256"], value_set=found["sha256"])
    table = rows.table.append_column(PREDICTED, pc.is_valid(places))
    for name, column in ((LABEL, "label"), (SCORE, "score"), (EMBEDDING, "embedding")):
        table = table.append_column(name, found[column].take(places))
    return replace(rows, table=table)


def check_predicted(table: pa.Table, digest: str) -> None:
    """See that every image of some rows was shown to the model.

    Raises:
        LookbookError: one was not; an export without it would be another one later, under the same id.
    """
    loaded = pc.fill_null(pc.not_equal(table["image_outcome"], "rejected"), False)
    missing = pc.sum(pc.and_(loaded, pc.invert(table[PREDICTED]))).as_py() or 0
    if missing:
        raise LookbookError(
            f"{missing} images have no stored prediction of the model {digest}.",
            "Give the model itself: --predict model.onnx.",
        )


def looks_at_predictions(request: ExportRequest) -> bool:
    """Return whether the filter names what a model says."""
    return request.filter is not None and bool(columns_of(request.filter, None) & {LABEL, SCORE, EMBEDDING})


def predict(lake: Lake, request: ExportRequest, model: OnnxModel, do: DoBatches | None = None) -> ExportRequest:
    """Ask a model about the images that a request may need it for, and store what it says.

    That are all images of the snapshot if its filter looks at predictions, else those that it chooses.

    Args:
        lake: of the dataset.
        request: what is asked.
        model: that is asked.
        do: has the batches done; None: in this process.

    Returns:
        The request, with the model's digest and the snapshot's id.
    """
    manifest = find_snapshot(lake, request.dataset, request.snapshot)
    asked = request.model_copy(update={"predictions": model.digest, "snapshot": manifest.snapshot_id})
    rows = read_rows(lake, manifest, only=partial(columns_looked_at, asked))
    rows = with_predictions(rows, read_predictions(lake, request.dataset, model.digest))
    if looks_at_predictions(request):
        good = pc.fill_null(pc.not_equal(rows.table["image_outcome"], "rejected"), False)
        table = rows.table.filter(good)
    else:
        table = select(rows, resolve(asked, manifest, rows, rows.table)).table
    table = table.filter(pc.invert(table[PREDICTED]))
    assert rows.others is not None  # noqa: S101 - not all columns were read
    table, others = with_objects(lake, manifest, table, ORIGINALS, rows.others)
    del rows
    names = ["sha256", KEY, DIGEST]
    fields = pa.schema([others.schema.field(name) for name in names])
    table = pa.Table.from_batches(others.read(table, names), fields)
    _predict_rows(lake, manifest, table, model, do or jobs.do_here(lake, do_batch))
    return asked


#: What a manifest says of its batch. Batches write in their own folder, and the run stores what they found: those who
#: do them need no right to write beside a dataset.
KIND = "predict"
#: The models that this process has loaded, by their digests.
_loaded: dict[str, OnnxModel] = {}


def _predict_rows(lake: Lake, manifest: Manifest, table: pa.Table, model: OnnxModel, do: DoBatches) -> None:
    """Predict the contents of some rows, in the order of their hashes, and store them chunk by chunk, each a batch."""
    table = table.take(pc.sort_indices(table["sha256"]))
    contents = table.take(first_places(table["sha256"]))
    _loaded[model.digest] = model
    told = {"model": model.digest, "name": model.name, "spec": model.spec.model_dump_json()}
    told["limits"] = manifest.recipe.model_dump_json()
    folder = folder_of(manifest.dataset, model.digest)

    def store(batch: str) -> None:
        found, _ = jobs.require_part(lake, batch)
        name = hashlib.sha256(" ".join(found["sha256"].to_pylist()).encode()).hexdigest()[:32]
        lake.replace(f"{folder}/{name}.parquet", to_parquet(found))

    with open_job(lake) as job:
        if len(contents):
            lake.replace(f"{job.folder}/{MODEL}", model.data)
        for start in range(0, len(contents), CHUNK):
            job.add(KIND, contents.slice(start, CHUNK), told)
        do(job.batches, store)


def first_places(column: pa.ChunkedArray) -> pa.Array:
    """Return the places of the first row of each value, in order."""
    codes = column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return pa.array(np.sort(np.unique(codes, return_index=True)[1]), pa.int64())


def do_batch(lake: Lake, batch: str) -> dict[str, int]:
    """Ask the model of a batch about its images. Doing it twice is harmless.

    Returns:
        The number of ``images``, and of those ``refused``: that could not be drawn for the model.

    Raises:
        LookbookError: there is no such batch; the lake lacks an object; the model fails, or is another one here.
        StoppedError: the run was interrupted.
    """
    table, told = jobs.read_batch(lake, batch)
    done = jobs.read_part(lake, batch)
    if done is not None:
        return done[1]
    model = _model_of(lake, batch, told)
    job = Job(recipe=model.spec.recipe(), limits=Recipe.model_validate_json(told["limits"]), seed=0)
    places = list(zip(*(table[name].to_pylist() for name in (KEY, DIGEST, "sha256")), strict=True))
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="predict") as pool, stoppable():
        found = pa.concat_tables(_answers(lake, places, job, model, pool))
    counts = {"images": len(found), "refused": len(found) - found["rule"].null_count}
    jobs.finish_batch(lake, batch, found, counts)
    return counts


def _model_of(lake: Lake, batch: str, told: Mapping[str, str]) -> OnnxModel:
    """Return the model of a batch, loaded once by a process.

    Raises:
        LookbookError: what draws or runs it here has another version: its predictions would be others.
    """
    if told["model"] not in _loaded:
        data = lake.get(f"{batch.rpartition('/')[0]}/{MODEL}")
        model = OnnxModel(told["name"], data, OnnxModelSpec.model_validate_json(told["spec"]))
        if model.digest != told["model"]:
            raise LookbookError(
                f"--predict {model.name}: this worker has another version of Lookbook, of what draws or of ONNX "
                "Runtime than the run that sent it the model.",
                "Install the same versions in both.",
            )
        _loaded[model.digest] = model
    return _loaded[told["model"]]


def _answers(
    lake: Lake, places: Sequence[tuple[str, str, str]], job: Job, model: OnnxModel, pool: ThreadPoolExecutor
) -> Iterator[pa.Table]:
    renderers = processes()

    def drawn(place: tuple[str, str, str]) -> NDArray[np.float32] | str:
        check_not_stopped()
        key, digest, sha256 = place
        try:
            found = ask(renderers, read_checked(lake, key, digest), job, sha256, 0, small=False)
        except Rejected as reject:
            return reject.rule
        return np.asarray(np.load(io.BytesIO(found.files[0].data), allow_pickle=False), np.float32)

    made = in_order(pool, drawn, places, AHEAD)
    while batch := list(islice(made, model.spec.batch_size)):
        images = [result for _, result in batch if not isinstance(result, str)]
        answers = model.ask(images) if images else None
        at = 0
        rows = []
        for (_, _, sha256), result in batch:
            row: dict[str, object] = {"sha256": sha256, "rule": result if isinstance(result, str) else None}
            if answers is not None and not isinstance(result, str):
                row |= {"label": answers.labels[at], "score": answers.scores[at]}
                row["embedding"] = None if answers.embeddings is None else answers.embeddings[at].tolist()
                at += 1
            rows.append(row)
        yield pa.Table.from_pylist(rows, schema=SCHEMA)
