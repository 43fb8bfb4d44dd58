"""Tiny models of ONNX, made by its helper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

#: The channels whose mean level is the score of each class.
LABELS = ["red", "green", "blue"]


def write_model(folder: Path, batch: int | str = "n", **changes: object) -> Path:
    """A model that says which channel is the brightest, with the means of the three as embedding; its file."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])
    means = helper.make_tensor_value_info("means", TensorProto.FLOAT, [batch, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    constants = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array(10, np.float32), "ten"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "ten"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "brightest", [image], [logits, means], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    spec = {"steps": [{"step": "crop", "size": 8}], "scores": "logits", "embedding": "means", "labels": LABELS}
    (folder / "model.yaml").write_text(yaml.safe_dump(spec | {"batch_size": 4} | changes))
    return path
