"""The nodes and constants of an ONNX graph that is being written, and the arrays between them."""

import ast
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import onnx

from mdp_jax.errors import UserError


class Value(NamedTuple):
    """An array of a traced program, as the graph has it.

    Attributes:
      data: the constant, in the program's order of axes; or the name of a tensor.
      order: the program's axis i is axis order[i] of the tensor. So transposing moves no data: convolutions of ONNX
        have the channels in front, those of the program at the end. Of a constant always 0, 1, ...
      dims: of the program's axes, before broadcasting: 1 where the program has more and no node has repeated it yet.
    """

    data: np.ndarray | str
    order: tuple[int, ...]
    dims: tuple[Any, ...]

    @property
    def constant(self) -> np.ndarray | None:
        """The constant; None of a tensor."""
        return self.data if isinstance(self.data, np.ndarray) else None


def of_constant(array: Any) -> Value:
    """A constant as a value."""
    array = np.asarray(array)
    return Value(array, tuple(range(array.ndim)), array.shape)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes another one."""
    return tuple(int(axis) for axis in np.argsort(order))


def kind_of(dtype: Any) -> int:
    """ONNX's number of a dtype.

    Raises:
      UserError: there is none here.
    """
    if jnp.dtype(dtype).kind not in "fiub":  # floats, whole numbers, conditions
        raise UserError(f"--format onnx: numbers of the type {dtype} are not written to ONNX")
    return onnx.helper.np_dtype_to_tensor_dtype(jnp.dtype(dtype))


class Graph:
    """Nodes and constants, in the order in which they were added."""

    def __init__(self, image: str, symbols: dict[str, int]):
        """Begins an empty graph.

        Args:
          image: the name of its input.
          symbols: name of a size that is not known -> axis of the input that has it.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[Any, str] = {}
        self._image, self._symbols = image, symbols

    def node(self, operation: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list where there are several."""
        names = [f"{operation.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(operation, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: np.ndarray) -> str:
        """The name of a constant; equal small ones are one."""
        array = np.ascontiguousarray(array) if array.ndim else array
        key = (array.dtype.str, array.shape, array.tobytes() if array.size < 1024 else id(array))
        if key not in self._names or array.size >= 1024:
            self._names[key] = f"constant_{len(self.constants)}"
            self.constants.append(onnx.numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def integers(self, *numbers: int) -> str:
        """The name of a constant int64 [n]."""
        return self.constant(np.array(numbers, np.int64))

    def size(self, size: Any) -> str:
        """The name of a tensor int64 [1] with a size: a number, or an expression of the sizes of the input."""
        if isinstance(size, int):
            return self.integers(size)
        # JAX writes h^2 for a power.
        return self._expression(ast.parse(str(size).replace("^", "**"), mode="eval").body)

    def sizes(self, dims: Sequence[Any]) -> str:
        """The name of a tensor int64 [n] with several sizes."""
        if all(isinstance(size, int) for size in dims):
            return self.integers(*dims)
        return self.once(("sizes", *map(str, dims)), "Concat", *map(self.size, dims), axis=0)

    def once(self, key: Any, operation: str, *inputs: str, **attributes: Any) -> str:
        """As `node`, the first time; later the same name."""
        if key not in self._names:
            self._names[key] = self.node(operation, *inputs, **attributes)
        return self._names[key]

    def _expression(self, node: ast.expr) -> str:
        """An expression of sizes, as JAX prints and reads it: names, numbers, + - *, floordiv, mod, max, min."""
        text = ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return self.integers(node.value)
        if isinstance(node, ast.Name):
            shape = self.once("shape of the image", "Shape", self._image)
            return self.once(text, "Gather", shape, self.integers(self._symbols[node.id]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self.once(text, "Neg", self._expression(node.operand))
        operations = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
        if isinstance(node, ast.BinOp) and type(node.op) in operations:
            sides = self._expression(node.left), self._expression(node.right)
            return self.once(text, operations[type(node.op)], *sides)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return self.once(text, "Pow", self._expression(node.left), self._expression(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
            left, right = map(self._expression, node.args)
            rest = {"floordiv": "Mod", "mod": "Mod", "max": "Max", "min": "Min"}[node.func.id]
            if node.func.id != "floordiv":
                return self.once(text, rest, left, right)
            # ONNX divides towards 0, and its Mod has the sign of the divisor.
            rest_of = self.once((left, "mod", right), "Mod", left, right)
            even = self.once((left, "even", right), "Sub", left, rest_of)
            return self.once(text, "Div", even, right)
        raise UserError(f"--format onnx: no form for the size {text}; expected --size HEIGHT WIDTH and --batch NUMBER")

    def stored(self, value: Value, order: Sequence[int] | None = None) -> str:
        """The name of a tensor whose axes are in an order (see Value); the program's own where it is None."""
        order = tuple(range(len(value.dims))) if order is None else tuple(order)
        if isinstance(value.data, np.ndarray):
            return self.constant(value.data.transpose(inverse(order)) if value.data.ndim else value.data)
        if value.order == order:
            return value.data
        # Axis order[i] of the result is axis value.order[i] of the tensor.
        moved = tuple(value.order[axis] for axis in inverse(order))
        return self.once((value.data, moved), "Transpose", value.data, perm=list(moved))

    def whole(self, value: Value, shape: Sequence[Any]) -> Value:
        """The same value, repeated to the shape that the program has."""
        if tuple(value.dims) == tuple(shape):
            return value
        if value.constant is not None and all(isinstance(size, int) for size in shape):
            return of_constant(np.broadcast_to(value.constant, shape))
        stored_shape = [shape[axis] for axis in inverse(value.order)]
        name = self.node("Expand", self.stored(value, value.order), self.sizes(stored_shape))
        return Value(name, value.order, tuple(shape))
