"""The operations of a traced program (primitives of JAX) as nodes of ONNX."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from mdp_jax.errors import UserError
from mdp_jax.exporting.onnx_values import Graph, Value, inverse, kind_of, of_constant
from mdp_jax.models import depthwise

# Primitive -> operation of ONNX on each number, and the same in NumPy, which computes what is constant faster than JAX,
# where it gives the same. ONNX's operations broadcast, so that nothing has to be repeated for them.
_EACH: dict[str, tuple[str, Callable | None]] = {
    "abs": ("Abs", np.abs),
    "add": ("Add", np.add),
    "add_any": ("Add", np.add),
    "and": ("And", np.logical_and),
    "ceil": ("Ceil", np.ceil),
    "cos": ("Cos", np.cos),
    "div": ("Div", None),
    "eq": ("Equal", np.equal),
    "erf": ("Erf", None),
    "exp": ("Exp", np.exp),
    "floor": ("Floor", np.floor),
    "ge": ("GreaterOrEqual", np.greater_equal),
    "gt": ("Greater", np.greater),
    "le": ("LessOrEqual", np.less_equal),
    "log": ("Log", np.log),
    "logistic": ("Sigmoid", None),
    "lt": ("Less", np.less),
    "max": ("Max", np.maximum),
    "min": ("Min", np.minimum),
    "mul": ("Mul", np.multiply),
    "neg": ("Neg", np.negative),
    "not": ("Not", np.logical_not),
    "or": ("Or", np.logical_or),
    "pow": ("Pow", np.power),
    "sign": ("Sign", np.sign),
    "sin": ("Sin", np.sin),
    "sqrt": ("Sqrt", np.sqrt),
    "sub": ("Sub", np.subtract),
    "tanh": ("Tanh", np.tanh),
}
_REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
AS_IT_IS = frozenset({"copy", "copy_p", "name", "optimization_barrier", "stop_gradient"})
# Primitives that call another program, and the parameters in which they have it.
_CALLS = frozenset(
    {"checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "remat2"}
)
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def run(graph: Graph, program: core.ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
    """Adds the nodes of a program to a graph.

    Args:
      graph: to which they are added.
      program: traced.
      arguments: its inputs.

    Returns:
      Its outputs, repeated to their shapes.

    Raises:
      UserError: it has an operation that is not known here.
    """
    values: dict[core.Var, Value] = dict(
        zip(program.jaxpr.constvars, map(of_constant, program.consts), strict=True)
    ) | dict(zip(program.jaxpr.invars, arguments, strict=True))

    def read(atom: core.Var | core.Literal) -> Value:
        return of_constant(np.asarray(atom.val, _type(atom))) if isinstance(atom, core.Literal) else values[atom]

    for equation in program.jaxpr.eqns:
        found = _apply(graph, equation, [read(atom) for atom in equation.invars])
        values |= zip(equation.outvars, found, strict=True)
    return [graph.whole(read(atom), _shape(atom)) for atom in program.jaxpr.outvars]


def _apply(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name == "scan":
        return _scan(graph, equation, inputs)
    if (chosen := depthwise.on_accelerators(equation)) is not None:
        return run(graph, chosen, inputs[1:])
    if name in _CALLS:
        inner = next(equation.params[key] for key in _INNER if key in equation.params)
        closed = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
        return run(graph, closed, inputs)
    if name in AS_IT_IS:
        return inputs
    folds = name in _OF_CONSTANTS or (name in _EACH and _EACH[name][1] is not None)
    if inputs and not folds and all(value.constant is not None for value in inputs):
        return _computed(graph, equation, inputs)
    if name in _EACH:
        return [_each(graph, *_EACH[name], inputs)]
    if name in _REDUCTIONS:
        return [_reduced(graph, _REDUCTIONS[name], inputs[0], equation)]
    if name not in _FUNCTIONS:
        raise UserError(
            f"--format onnx: the network has the operation {name}, which is not written to ONNX; expected --format "
            "stablehlo, which has all operations"
        )
    return _FUNCTIONS[name](graph, equation, inputs)


def _computed(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """What an operation gives of constants."""
    whole = [graph.whole(v, _shape(atom)).constant for v, atom in zip(inputs, equation.invars, strict=True)]
    found = equation.primitive.bind(*whole, **equation.params)
    return [of_constant(one) for one in (found if equation.primitive.multiple_results else [found])]


def _shape(atom: core.Var | core.Literal) -> tuple:
    aval: Any = atom.aval
    return tuple(aval.shape)


def _type(atom: core.Var | core.Literal) -> np.dtype:
    aval: Any = atom.aval
    return aval.dtype


def _each(graph: Graph, operation: str, of_numpy: Callable | None, inputs: list[Value]) -> Value:
    """An operation on each number of arrays of the same rank, or of numbers."""
    constants = [value.constant for value in inputs]
    if of_numpy is not None and all(constant is not None for constant in constants):
        return of_constant(np.asarray(of_numpy(*constants)).astype(_dtype(operation, constants[0])))
    if operation == "Sub" and constants[1] is not None:  # which a convolution in front of it can take in
        operation, inputs = "Add", [inputs[0], of_constant(-constants[1])]
    rank = max(len(value.dims) for value in inputs)
    tensors = [value for value in inputs if value.constant is None and len(value.dims) == rank]
    order = next((value.order for value in tensors), tuple(range(rank)))
    least = constants[-1]
    if operation == "Max" and len(tensors) == 1 and _is_zero(least):
        name = graph.node("Relu", graph.stored(tensors[0], order))
    else:
        name = graph.node(operation, *(graph.stored(value, order if value.dims else ()) for value in inputs))
    return Value(name, order, _broadcast([value.dims for value in inputs], rank))


def _is_zero(constant: np.ndarray | None) -> bool:
    """Whether it is the number 0.0."""
    return constant is not None and constant.ndim == 0 and constant.dtype.kind == "f" and constant == 0


def _dtype(operation: str, first: np.ndarray | None) -> Any:
    compares = operation in ("Equal", "GreaterOrEqual", "Greater", "LessOrEqual", "Less")
    return np.bool_ if compares or first is None else first.dtype


def _broadcast(shapes: Sequence[tuple], rank: int) -> tuple:
    """The dims of what an operation on each number gives."""
    shapes = [dims for dims in shapes if len(dims) == rank]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True))


def _without(order: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The order of a tensor that lost some of the program's axes."""
    left = [order[axis] for axis in range(len(order)) if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def _reduced(graph: Graph, operation: str, value: Value, equation: core.JaxprEqn) -> Value:
    axes, shape = equation.params["axes"], _shape(equation.invars[0])
    value = graph.whole(value, shape)
    stored, places = graph.stored(value, value.order), sorted(value.order[axis] for axis in axes)
    if operation == "ReduceSum":  # the one whose axes are an input in this version of ONNX
        name = graph.node(operation, stored, graph.integers(*places), keepdims=0)
    else:
        name = graph.node(operation, stored, axes=places, keepdims=0)
    return Value(name, _without(value.order, axes), _shape(equation.outvars[0]))


def _argmax(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    (axis,) = equation.params["axes"]
    value = graph.whole(inputs[0], _shape(equation.invars[0]))
    found = graph.node("ArgMax", graph.stored(value, value.order), axis=value.order[axis], keepdims=0)
    name = graph.node("Cast", found, to=kind_of(equation.params["index_dtype"]))
    return [Value(name, _without(value.order, (axis,)), _shape(equation.outvars[0]))]


def _convolution(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    params = equation.params
    numbers = params["dimension_numbers"]
    spread = {*params["lhs_dilation"], params["batch_group_count"]} != {1}
    if spread or any(low < 0 or high < 0 for low, high in params["padding"]):
        raise UserError("--format onnx: a transposed convolution is not written to ONNX; expected --format stablehlo")
    image, kernel = (graph.whole(v, _shape(atom)) for v, atom in zip(inputs, equation.invars, strict=True))
    # lhs_spec: the program's axes of batch, channels, rows, columns; ONNX has them in this order.
    name = graph.node(
        "Conv",
        graph.stored(image, inverse(numbers.lhs_spec)),
        graph.stored(kernel, inverse(numbers.rhs_spec)),
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
        pads=[low for low, _ in params["padding"]] + [high for _, high in params["padding"]],
    )
    return [Value(name, inverse(numbers.out_spec), _shape(equation.outvars[0]))]


def _max_pool(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    params, rank = equation.params, len(_shape(equation.invars[0]))
    window, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    spatial = [axis for axis in range(rank) if window[axis] > 1 or strides[axis] > 1]
    others = [axis for axis in range(rank) if axis not in spatial]
    dilated = {*params["base_dilation"], *params["window_dilation"]} != {1}
    if rank != 4 or len(spatial) != 2 or dilated or any(any(padding[axis]) for axis in others):
        raise UserError("--format onnx: this kind of pooling is not written to ONNX; expected --format stablehlo")
    order = inverse((*others, *spatial))
    name = graph.node(
        "MaxPool",
        graph.stored(graph.whole(inputs[0], _shape(equation.invars[0])), order),
        kernel_shape=[window[axis] for axis in spatial],
        strides=[strides[axis] for axis in spatial],
        pads=[padding[axis][0] for axis in spatial] + [padding[axis][1] for axis in spatial],
    )
    return [Value(name, order, _shape(equation.outvars[0]))]


def _product(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """A product over axes: of a matrix with an array by MatMul, of others by Einsum."""
    (left_over, right_over), (left_batch, right_batch) = equation.params["dimension_numbers"]
    shape = _shape(equation.outvars[0])
    left, right = (graph.whole(v, _shape(atom)) for v, atom in zip(inputs, equation.invars, strict=True))
    if not left_batch and len(left_over) == 1:
        if len(left.dims) == 2:
            return [_by_matrix(graph, left, left_over[0], right, right_over[0], True, shape)]
        if len(right.dims) == 2:
            return [_by_matrix(graph, right, right_over[0], left, left_over[0], False, shape)]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_left = [next(letters) for _ in left.dims]
    shared = dict(zip((*right_over, *right_batch), (*left_over, *left_batch), strict=True))
    of_right = [of_left[shared[axis]] if axis in shared else next(letters) for axis in range(len(right.dims))]
    result = [of_left[axis] for axis in left_batch]
    result += [of_left[axis] for axis in range(len(of_left)) if axis not in (*left_over, *left_batch)]
    result += [of_right[axis] for axis in range(len(of_right)) if axis not in shared]
    equation_text = f"{''.join(of_left)},{''.join(of_right)}->{''.join(result)}"
    name = graph.node("Einsum", graph.stored(left), graph.stored(right), equation=equation_text)
    return [Value(name, tuple(range(len(shape))), shape)]


def _by_matrix(graph: Graph, matrix: Value, inner: int, array: Value, axis: int, first: bool, shape: tuple) -> Value:
    """The product of a matrix, over its axis `inner`, with an array over its axis `axis`; the array keeps its order.

    `first`: the axis that comes from the matrix is the first one of the result, else the last one.
    """
    rank, rows_first = len(array.dims), (0, 1) if inner == 1 else (1, 0)  # to [new, inner]
    order = array.order
    if order[axis] < rank - 2:  # MatMul works on the last two axes
        free = [a for a in range(rank) if a != axis]
        order = inverse((*free, axis))
    stored = graph.stored(array, order)
    if order[axis] == rank - 1:
        name = graph.node("MatMul", stored, graph.stored(matrix, inverse(rows_first[::-1])))
    else:
        name = graph.node("MatMul", graph.stored(matrix, inverse(rows_first)), stored)
    free_places = [order[a] for a in range(rank) if a != axis]
    places = (order[axis], *free_places) if first else (*free_places, order[axis])
    return Value(name, places, shape)


def _broadcast_in_dim(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """New axes get the size 1; nothing is repeated until an operation needs it."""
    value, places = inputs[0], equation.params["broadcast_dimensions"]
    rank = len(equation.params["shape"])
    dims = tuple(value.dims[places.index(axis)] if axis in places else 1 for axis in range(rank))
    if value.constant is not None:
        return [of_constant(value.constant.reshape(dims))]
    if len(value.dims) == rank:
        return [Value(value.data, value.order, dims)]
    new = [axis for axis in range(rank) if axis not in places]
    name = graph.node("Unsqueeze", graph.stored(value), graph.integers(*new))
    return [Value(name, tuple(range(rank)), dims)]


def _reshape(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    shape = _shape(equation.outvars[0])
    value = graph.whole(inputs[0], _shape(equation.invars[0]))
    if value.constant is not None:
        return [of_constant(value.constant.reshape(shape))]
    name = graph.node("Reshape", graph.stored(value), graph.sizes(shape))
    return [Value(name, tuple(range(len(shape))), shape)]


def _transpose(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    value, axes = inputs[0], equation.params["permutation"]
    if value.constant is not None:
        return [of_constant(value.constant.transpose(axes))]
    return [Value(value.data, tuple(value.order[a] for a in axes), tuple(value.dims[a] for a in axes))]


def _concatenate(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    parts = [graph.whole(v, _shape(atom)) for v, atom in zip(inputs, equation.invars, strict=True)]
    order = next((part.order for part in parts if part.constant is None), parts[0].order)
    axis = order[equation.params["dimension"]]
    name = graph.node("Concat", *(graph.stored(part, order) for part in parts), axis=axis)
    return [Value(name, order, _shape(equation.outvars[0]))]


def _stack(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    axis = equation.params["axis"]
    parts = [graph.whole(v, _shape(atom)) for v, atom in zip(inputs, equation.invars, strict=True)]
    names = [graph.node("Unsqueeze", graph.stored(part), graph.integers(axis)) for part in parts]
    shape = _shape(equation.outvars[0])
    return [Value(graph.node("Concat", *names, axis=axis), tuple(range(len(shape))), shape)]


def _cast(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    value, dtype = inputs[0], equation.params["new_dtype"]
    if value.constant is not None:
        return [of_constant(value.constant.astype(dtype))]
    return [value._replace(data=graph.node("Cast", graph.stored(value, value.order), to=kind_of(dtype)))]


def _select(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    if len(inputs) != 3:
        raise UserError("--format onnx: a choice of more than two is not written to ONNX; expected --format stablehlo")
    which, if_false, if_true = inputs
    return [_each(graph, "Where", None, [which, if_true, if_false])]


def _integer_pow(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    exponent = of_constant(np.asarray(equation.params["y"], _type(equation.invars[0])))
    return [_each(graph, "Pow", np.power, [inputs[0], exponent])]


def _not_equal(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    return [_each(graph, "Not", np.logical_not, [_each(graph, "Equal", np.equal, inputs)])]


def _square(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    return [_each(graph, "Mul", np.multiply, [inputs[0], inputs[0]])]


def _rsqrt(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    root = _each(graph, "Sqrt", np.sqrt, inputs)
    return [_each(graph, "Reciprocal", lambda x: np.ones((), x.dtype) / x, [root])]


def _erfc(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    one = of_constant(np.ones((), _type(equation.invars[0])))
    return [_each(graph, "Sub", np.subtract, [one, _each(graph, "Erf", None, inputs)])]


def _clamp(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    least, value, most = inputs
    return [_each(graph, "Min", np.minimum, [_each(graph, "Max", np.maximum, [value, least]), most])]


def _scatter(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """One row of an array is replaced, as by x.at[3].set(y)."""
    array, indices, row = (graph.whole(v, _shape(atom)) for v, atom in zip(inputs, equation.invars, strict=True))
    numbers, shape = equation.params["dimension_numbers"], _shape(equation.outvars[0])
    one_row = numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (0,)
    one_row = one_row and numbers.update_window_dims == tuple(range(len(shape) - 1))
    if indices.constant is None or indices.constant.size != 1 or not one_row:
        raise UserError("--format onnx: this kind of scatter is not written to ONNX; expected --format stablehlo")
    at, stored = int(indices.constant.ravel()[0]), graph.stored(array)
    before = graph.node("Slice", stored, graph.integers(0), graph.integers(at), graph.integers(0))
    after = graph.node("Slice", stored, graph.integers(at + 1), graph.integers(shape[0]), graph.integers(0))
    middle = graph.node("Unsqueeze", graph.stored(row), graph.integers(0))
    return [Value(graph.node("Concat", before, middle, after, axis=0), tuple(range(len(shape))), shape)]


def _gather(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """One part of an array, as x[3] and x[:, :n] are written where sizes are not known; or several rows."""
    array, indices = (graph.whole(v, _shape(atom)) for v, atom in zip(inputs, equation.invars, strict=True))
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    rank, among = len(array.dims), numbers.start_index_map
    whole = {axis for axis in range(rank) if sizes[axis] == array.dims[axis]}
    if len(indices.dims) == 2 and len(among) == 1:
        (axis,) = among
        others = tuple(other for other in range(rank) if other != axis)
        if numbers.collapsed_slice_dims == (axis,) and numbers.offset_dims == others and whole >= {*others}:
            rows = graph.node("Squeeze", graph.stored(indices), graph.integers(1))
            name = graph.node("Gather", graph.stored(array, array.order), rows, axis=array.order[axis])
            return [Value(name, array.order, _shape(equation.outvars[0]))]
    if indices.constant is None or indices.constant.ndim != 1:
        raise UserError("--format onnx: this kind of gather is not written to ONNX; expected --format stablehlo")
    starts = dict(zip(among, map(int, indices.constant), strict=True))
    axes = [axis for axis in range(rank) if axis in starts or axis not in whole]
    cuts = [[starts.get(axis, 0) for axis in axes], [starts.get(axis, 0) + sizes[axis] for axis in axes]]
    places = graph.integers(*(array.order[axis] for axis in axes))
    name = graph.node("Slice", graph.stored(array, array.order), *map(graph.sizes, cuts), places)
    gone = numbers.collapsed_slice_dims
    if gone:
        name = graph.node("Squeeze", name, graph.integers(*sorted(array.order[axis] for axis in gone)))
    return [Value(name, _without(array.order, gone), _shape(equation.outvars[0]))]


def _iota(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    shape, axis, dtype = _shape(equation.outvars[0]), equation.params["dimension"], equation.params["dtype"]
    dims = tuple(size if a == axis else 1 for a, size in enumerate(shape))
    if isinstance(shape[axis], int):
        return [of_constant(np.arange(shape[axis], dtype=dtype).reshape(dims))]
    scalars = [graph.constant(np.array(0)), graph.node("Squeeze", graph.size(shape[axis])), graph.constant(np.array(1))]
    name = graph.node("Cast", graph.node("Range", *scalars), to=kind_of(dtype))
    if len(dims) > 1:
        name = graph.node("Reshape", name, graph.integers(*(-1 if a == axis else 1 for a in range(len(dims)))))
    return [Value(name, tuple(range(len(dims))), dims)]


def _platform_index(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """Which form of a choice by platform is taken; `_apply` does not ask."""
    return [of_constant(np.asarray(equation.params["platforms"].index(None), np.int32))]


def _dim_as_value(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    number = graph.node("Squeeze", graph.size(equation.params["dim"]))
    return [Value(graph.node("Cast", number, to=kind_of(_type(equation.outvars[0]))), (), ())]


def _slice(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    params, shape = equation.params, _shape(equation.invars[0])
    value = graph.whole(inputs[0], shape)
    every = params["strides"] or (1,) * len(shape)
    cuts = tuple(zip(params["start_indices"], params["limit_indices"], every, strict=True))
    if value.constant is not None:
        return [of_constant(value.constant[tuple(slice(*cut) for cut in cuts)])]
    starts, ends, steps = (graph.sizes(one) for one in zip(*cuts, strict=True))
    name = graph.node("Slice", graph.stored(value), starts, ends, graph.integers(*range(len(shape))), steps)
    return [Value(name, tuple(range(len(shape))), _shape(equation.outvars[0]))]


def _split(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    value, axis = graph.whole(inputs[0], _shape(equation.invars[0])), equation.params["axis"]
    sizes = equation.params["sizes"]
    place = value.order[axis]
    names = graph.node("Split", graph.stored(value, value.order), graph.sizes(sizes), outputs=len(sizes), axis=place)
    names = [names] if isinstance(names, str) else names
    return [Value(name, value.order, _shape(v)) for name, v in zip(names, equation.outvars, strict=True)]


def _squeeze(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    value, axes = inputs[0], equation.params["dimensions"]
    shape = tuple(size for axis, size in enumerate(value.dims) if axis not in axes)
    if value.constant is not None:
        return [of_constant(value.constant.reshape(shape))]
    places = sorted(value.order[axis] for axis in axes)
    name = graph.node("Squeeze", graph.stored(value, value.order), graph.integers(*places))
    return [Value(name, _without(value.order, axes), shape)]


def _pad(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    widths = equation.params["padding_config"]
    if any(inner or (isinstance(n, int) and n < 0) for low, high, inner in widths for n in (low, high)):
        raise UserError("--format onnx: this kind of padding is not written to ONNX; expected --format stablehlo")
    value = graph.whole(inputs[0], _shape(equation.invars[0]))
    pads = graph.sizes([*(low for low, _, _ in widths), *(high for _, high, _ in widths)])
    name = graph.node("Pad", graph.stored(value), pads, graph.stored(inputs[1]))
    return [Value(name, tuple(range(len(widths))), _shape(equation.outvars[0]))]


def _scan(graph: Graph, equation: core.JaxprEqn, inputs: list[Value]) -> list[Value]:
    """A loop of known length, step by step."""
    params = equation.params
    length, fixed, carried = params["length"], params["num_consts"], params["num_carry"]
    if not isinstance(length, int) or params["reverse"]:
        raise UserError("--format onnx: this kind of loop is not written to ONNX; expected --format stablehlo")
    carry, over = inputs[fixed : fixed + carried], []
    for value, atom in zip(inputs[fixed + carried :], equation.invars[fixed + carried :], strict=True):
        over.append(graph.whole(value, _shape(atom)))
    steps: list[list[Value]] = []
    for i in range(length):
        row = [_row(graph, value, i) for value in over]
        found = run(graph, params["jaxpr"], [*inputs[:fixed], *carry, *row])
        carry, given = found[:carried], found[carried:]
        steps.append(given)
    stacked = []
    for rows, atom in zip(zip(*steps, strict=True), equation.outvars[carried:], strict=True):
        parts = [graph.node("Unsqueeze", graph.stored(value), graph.integers(0)) for value in rows]
        shape = _shape(atom)
        stacked.append(Value(graph.node("Concat", *parts, axis=0), tuple(range(len(shape))), shape))
    return [*carry, *stacked]


def _row(graph: Graph, value: Value, index: int) -> Value:
    if value.constant is not None:
        return of_constant(value.constant[index])
    name = graph.node("Gather", graph.stored(value), graph.constant(np.array(index)), axis=0)
    return Value(name, tuple(range(len(value.dims) - 1)), value.dims[1:])


_FUNCTIONS: dict[str, Callable[[Graph, core.JaxprEqn, list[Value]], list[Value]]] = {
    "argmax": _argmax,
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _cast,
    "dim_as_value": _dim_as_value,
    "dot_general": _product,
    "erfc": _erfc,
    "gather": _gather,
    "integer_pow": _integer_pow,
    "iota": _iota,
    "ne": _not_equal,
    "pad": _pad,
    "platform_index": _platform_index,
    "reduce_window_max": _max_pool,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "scatter": _scatter,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": _square,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
}
# Those that handle constants themselves.
_OF_CONSTANTS = frozenset(
    {"broadcast_in_dim", "convert_element_type", "reshape", "rsqrt", "slice", "squeeze", "transpose"}
)
OPERATIONS = frozenset({*_EACH, *_REDUCTIONS, *AS_IT_IS, *_FUNCTIONS, "scan"})
