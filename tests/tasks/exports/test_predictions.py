"""Predictions by a tiny model: what it says is what numpy says, stored once, filtered on, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.exports import predictions
from lookbook.tasks.exports.export import count_rows
from lookbook.tasks.exports.predictions import OnnxModel, folder_of, load_model, predict, read_predictions
from lookbook.tasks.exports.request import ExportRequest, read_request
from tests.support.exports import digests, exported, prepared
from tests.support.onnx_models import LABELS, write_model


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    folder = tmp_path / "model"
    folder.mkdir()
    return load_model(write_model(folder))


def request(**values: Any) -> ExportRequest:
    return read_request({"dataset": "things"} | values)


def plain(asked: ExportRequest) -> dict[str, Any]:
    return asked.model_dump(exclude={"dataset"}, exclude_unset=True, by_alias=True)


def test_labels_scores_and_embeddings_are_those_that_numpy_finds(
    small_dataset: FolderLake, tmp_path: Path, model: OnnxModel
) -> None:
    asked = predict(small_dataset, request(), model)
    exported(small_dataset, tmp_path / "out", **plain(asked))
    rows = pd.read_csv(tmp_path / "out" / "files" / "metadata.csv")
    assert len(rows) == 4
    for row in rows.to_dict("records"):
        with Image.open(tmp_path / "out" / "files" / row["file_name"]) as image:
            means = np.asarray(ImageOps.fit(image, (8, 8), Image.Resampling.LANCZOS)).mean(axis=(0, 1)) / 255
        assert np.abs(np.array(json.loads(row["embedding"])) - means).max() < 0.02
        shares = np.exp(10 * np.array(json.loads(row["embedding"])))
        assert row["predicted_label"] == LABELS[int(shares.argmax())]
        assert row["predicted_score"] == pytest.approx(shares.max() / shares.sum(), abs=1e-5)


def test_predictions_are_stored_with_the_dataset_and_made_once(
    small_dataset: FolderLake, model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(small_dataset, request(filter={"ids": ["2"]}), model)
    stored = read_predictions(small_dataset, "things", model.digest)
    assert len(stored) == 1
    predict(small_dataset, request(), model)
    assert len(read_predictions(small_dataset, "things", model.digest)) == 4
    assert sorted(info.key for info in small_dataset.list(folder_of("things", model.digest)))

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(model, "ask", never)
    predict(small_dataset, request(), model)


def test_what_a_model_says_does_not_depend_on_what_else_it_is_asked(model: OnnxModel) -> None:
    images = [np.random.default_rng(seed).random((3, 8, 8), np.float32) for seed in range(11)]
    together = model.ask(images)
    alone = [model.ask([image]) for image in images]
    assert together.scores == [answers.scores[0] for answers in alone]
    assert together.embeddings is not None
    for place, answers in enumerate(alone):
        assert answers.embeddings is not None
        assert (together.embeddings[place] == answers.embeddings[0]).all()


@pytest.mark.parametrize("where", ["label", "score"])
def test_images_are_chosen_by_what_a_model_says_of_them(
    small_dataset: FolderLake, model: OnnxModel, where: str
) -> None:
    conditions = {
        "label": {"column": "predicted_label", "op": "=", "value": "green"},
        "score": {"column": "predicted_score", "op": ">=", "value": 0.9},
    }
    asked = predict(small_dataset, request(filter=conditions[where]), model)
    stored = read_predictions(small_dataset, "things", model.digest).to_pylist()
    assert len(stored) == 4, "all images were shown to it"
    expected = sum(row["label"] == "green" if where == "label" else row["score"] >= 0.9 for row in stored)
    assert count_rows(prepared(small_dataset, **plain(asked)))["exported"] == expected


def test_the_same_bytes_whether_predictions_were_there_or_not(
    small_dataset: FolderLake, tmp_path: Path, model: OnnxModel
) -> None:
    asked = predict(small_dataset, request(recipe="square-8", format="parquet"), model)
    exported(small_dataset, tmp_path / "one", **plain(asked))
    for info in list(small_dataset.list(folder_of("things", model.digest))):
        small_dataset.remove(info.key)
    with pytest.raises(LookbookError, match="4 images have no stored prediction"):
        exported(small_dataset, tmp_path / "none", **plain(asked))
    for ids in (["2"], ["1"]):
        predict(small_dataset, request(filter={"ids": ids}), model)
    predict(small_dataset, request(), model)
    exported(small_dataset, tmp_path / "other", **plain(asked))
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    shard = next((tmp_path / "one" / "files" / "data").iterdir())
    features = json.loads(pq.read_schema(shard).metadata[b"huggingface"])["info"]["features"]
    assert features["embedding"]["_type"] == "Sequence"


def test_a_filter_on_predictions_that_are_not_stored_is_no_empty_export(
    small_dataset: FolderLake, model: OnnxModel
) -> None:
    wanted = {"column": "predicted_label", "op": "=", "value": "red"}
    with pytest.raises(LookbookError, match="no stored prediction"):
        prepared(small_dataset, filter=wanted, predictions=model.digest)
    with pytest.raises(UsageError, match="no column predicted_label"):
        prepared(small_dataset, filter=wanted)


def test_killed_predictions_go_on_chunk_by_chunk(
    small_dataset: FolderLake, model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 1)
    asked: list[int] = []
    ask = model.ask

    def counted(images: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(images))
        return ask(images)

    with monkeypatch.context() as patch:
        patch.setattr(model, "ask", counted)
        with pytest.raises(KeyboardInterrupt):
            predict(small_dataset, request(), model)
    assert len(read_predictions(small_dataset, "things", model.digest)) == 2
    predict(small_dataset, request(), model)
    assert len(read_predictions(small_dataset, "things", model.digest)) == 4


def test_a_model_of_another_spec_has_another_digest(tmp_path: Path, model: OnnxModel) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert load_model(write_model(other)).digest == model.digest
    assert load_model(write_model(other, activation="none")).digest != model.digest


def test_a_model_that_takes_one_image_at_a_time_is_given_one(tmp_path: Path) -> None:
    one = load_model(write_model(tmp_path, batch=1))
    found = one.ask([np.zeros((3, 8, 8), np.float32)] * 3)
    assert len(found.labels) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": "nothing"}, "it has the outputs logits, means"),
        ({"scores": None, "embedding": None}, "it has the outputs"),
        ({"input": "picture"}, "it has the inputs image"),
        ({"steps": []}, "at least 1 item"),
        ({"colour": "x"}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_the_model_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(write_model(tmp_path, **changes))


def test_what_fails_when_it_is_asked_is_named(tmp_path: Path) -> None:
    wrong = load_model(write_model(tmp_path, labels=["one"]))
    with pytest.raises(UsageError, match="3 scores, and 1 labels"):
        wrong.ask([np.zeros((3, 8, 8), np.float32)])
    with pytest.raises(LookbookError, match="the model fails"):
        wrong.ask([np.zeros((3, 9, 9), np.float32)])


def test_files_that_are_missing_or_no_model_are_named(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    path.write_bytes(b"no model")
    with pytest.raises(UsageError, match="ONNX Runtime cannot load it"):
        load_model(path)
    (tmp_path / "model.yaml").unlink()
    with pytest.raises(UsageError, match=r"model.yaml"):
        load_model(path)
    with pytest.raises(UsageError, match="No such file"):
        load_model(tmp_path / "other.onnx")


def test_normalised_arrays_reach_the_model(small_dataset: FolderLake, tmp_path: Path) -> None:
    steps = [{"step": "crop", "size": 8}, {"step": "normalise", "mean": [0.5], "std": [0.25]}]
    shifted = load_model(write_model(tmp_path, steps=steps))
    predict(small_dataset, request(), shifted)
    found = read_predictions(small_dataset, "things", shifted.digest).to_pylist()
    levels = [value for row in found for value in row["embedding"]]
    assert min(levels) < 0
    assert -2.01 < min(levels) < max(levels) < 2.01
