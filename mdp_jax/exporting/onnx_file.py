"""A network as an ONNX model. The imports of this file need the extra `export`."""

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx

from mdp_jax.errors import UserError
from mdp_jax.exporting import onnx_operations
from mdp_jax.exporting.onnx_values import Graph, Value, kind_of
from mdp_jax.exporting.program import Form, Program

OPSET, IR = 17, 8  # of ONNX 1.12: old enough for most programs that read it
_MOST_BYTES = 2**31 - 1  # of a file in ONNX's format with its weights inside


def model_of(program: Program, form: Form, classes: Sequence[str], described: str) -> bytes:
    """Writes a program as an ONNX model.

    Args:
      program: uint8 [B, H, W, 3] to labels or logits, in float32.
      form: its input, "image", and its output, which has the name form.output.
      classes: names, which the model's metadata hold as JSON under "classes".
      described: what the model is.

    Returns:
      The bytes of the file.

    Raises:
      UserError: the network has an operation that is not known here, or is too large.
    """
    image = form.image()
    traced = jax.make_jaxpr(program)(image)
    graph = Graph("image", {str(d): axis for axis, d in enumerate(image.shape) if not isinstance(d, int)})
    (found,) = onnx_operations.run(graph, traced, [Value("image", (0, 1, 2, 3), image.shape)])
    graph.nodes.append(onnx.helper.make_node("Identity", [graph.stored(found)], [form.output]))
    (out,) = traced.out_avals
    tensors = [_tensor("image", image), _tensor(form.output, out)]
    made = onnx.helper.make_graph(graph.nodes, "segmenter", tensors[:1], tensors[1:], graph.constants)
    size = made.ByteSize()
    if size > _MOST_BYTES:
        raise UserError(f"--format onnx: the file would have {size:,} bytes; expected at most {_MOST_BYTES:,}")
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR, producer_name="mdp_jax")
    model.doc_string = described
    onnx.helper.set_model_props(model, {"classes": json.dumps(list(classes), ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _tensor(name: str, array: Any) -> onnx.ValueInfoProto:
    shape = [size if isinstance(size, int) else str(size) for size in array.shape]
    return onnx.helper.make_tensor_value_info(name, kind_of(array.dtype), shape)


def run(model: bytes, image: np.ndarray) -> np.ndarray:
    """Runs a model by ONNX Runtime on the CPU.

    Args:
      model: the bytes of its file.
      image: uint8 [B, H, W, 3].
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]
