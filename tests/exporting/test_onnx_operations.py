"""mdp_jax/exporting/onnx_*.py: what JAX computes and what ONNX Runtime computes from the model that was written."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from jax import lax

from mdp_jax.errors import UserError
from mdp_jax.exporting import onnx_file, onnx_operations
from mdp_jax.exporting.program import Form
from mdp_jax.models import depthwise

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 7, 9, 3), dtype=np.uint8)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)
MATRIX = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)


def numbers(image):
    """From -1 to 1, with the channels at the end."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def of_each_number(image):
    x = numbers(image)
    y = jnp.abs(x) + jnp.exp(x) * jnp.sin(x) - jnp.cos(x) / (2.0 + jnp.tanh(x))
    y = y + jnp.log(2.0 + x) + lax.logistic(x) + lax.erf(x) + lax.erfc(x) + jnp.sqrt(x + 1.0) + lax.rsqrt(x + 2.0)
    y = y + jnp.floor(3 * x) + jnp.ceil(3 * x) + jnp.sign(x) - (-x) + x**3 + jnp.square(x) + jnp.power(x + 1.5, 0.7)
    return jnp.maximum(jnp.minimum(y, 1.0), x) + lax.clamp(-0.5, x, jnp.float32(0.25)) + jnp.maximum(x, 0.0)


def of_conditions(image):
    x = numbers(image)
    here = ((x > 0.1) & (x < 0.7)) | (x >= 0.9) | ~(x <= 0.95)
    return jnp.where(here, x, 2 * x) + jnp.where((image == 3) | (image != 4), x, 0.0)


def of_sums(image):
    x = numbers(image)
    whole = jnp.sum(x, (1, 2)) + jnp.max(x, (1, 2)) - jnp.min(x, (1, 2))
    moved = jnp.transpose(x, (0, 3, 2, 1))  # no data are moved for it
    return whole[:, :, None, None] * moved + jnp.mean(moved, axis=2, keepdims=True)


def of_convolutions(image):
    x = numbers(image)
    arguments = {"padding": ((1, 1), (1, 2)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    y = lax.conv_general_dilated(x, KERNEL, (2, 1), rhs_dilation=(1, 2), **arguments)
    z = lax.conv_general_dilated(x, KERNEL[:, :, :1, :3], (1, 1), feature_group_count=3, **arguments)
    pooled = lax.reduce_window(y, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 0), (0, 0)))
    return jnp.sum(pooled, (1, 2)) @ MATRIX.T[:4, :1] + jnp.sum(z)


def of_a_choice(image):
    """By platform. What is written is the form of accelerators: one convolution, of each channel by itself."""
    return depthwise.convolution(numbers(image), KERNEL[:, :, :1, :3], 1)


def of_products(image):
    x = numbers(image)
    first = jnp.einsum("Hh,bhwc->bHwc", MATRIX.T @ MATRIX[:, :3], x[:, :3])
    last = jnp.einsum("bhwc,cd->bhwd", x, MATRIX)
    several = jnp.einsum("bhwc,bhvc->bhwv", x, x[:, :, :4])
    return jnp.sum(first, (1, 2)) + jnp.sum(last) + jnp.sum(several)


def of_parts(image):
    x = numbers(image)
    first, second = jnp.split(x, (2,), axis=-1)
    joined = jnp.concatenate([second, first, jnp.ones_like(second)], axis=-1)
    padded = jnp.pad(joined[:, 1:, ::1], ((0, 0), (0, 2), (1, 0), (0, 0)), constant_values=2.0)
    return lax.squeeze(padded[:, 2:3], (1,)).reshape(len(x), -1, 2)


def of_a_loop(image):
    def step(carry, at):
        carry = carry * at[0] + at[1]
        return carry, carry[:, 0]

    x = numbers(image)
    last, each = lax.scan(step, x, (np.float32([0.5, 2.0]), jnp.stack([x, -x])))
    return jnp.sum(last) + each


def of_rows(image):
    """As a loop over equal blocks keeps the outputs of some of them."""

    def step(kept, number):
        return kept.at[(number + 1) // 2].set(numbers(image) * (1 + number % 2)), None

    kept, _ = lax.scan(step, jnp.ones((3, *image.shape)), np.arange(5))
    turned = jnp.take(kept[0], np.array([2, 0, 1, 1, -1]), axis=2)
    return (kept[1] + kept[0] * kept[2])[..., 1:] + jnp.mean(turned, axis=2, keepdims=True)[..., :2]


def of_a_grid(image):
    height, width = image.shape[1:3]
    rows = jnp.arange(height)[:, None] * width + jnp.arange(width)[None, :]
    shares = jnp.max(numbers(image), axis=-1) * (rows.astype(jnp.float32) / (height * width))[None]
    best = jnp.argmax(jnp.stack([shares, jnp.min(numbers(image), axis=-1) + 1.0], axis=-1), axis=-1)
    return shares + best.astype(jnp.float32)


CASES = (
    of_each_number,
    of_conditions,
    of_sums,
    of_convolutions,
    of_a_choice,
    of_products,
    of_parts,
    of_a_loop,
    of_rows,
    of_a_grid,
)
ANY_SIZE = (of_each_number, of_sums, of_a_choice, of_rows, of_a_grid)


@pytest.mark.parametrize("function", CASES)
def test_onnx_runtime_computes_the_same(function):
    expected = np.asarray(jax.jit(function)(IMAGE))
    forms = [Form(batch=2, size=(7, 9)), *([Form()] if function in ANY_SIZE else [])]
    for form in forms:
        found = onnx_file.run(onnx_file.model_of(function, form, (), ""), IMAGE)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def primitives(program):
    for equation in program.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def test_every_operation_is_in_a_case():
    seen = {
        name
        for function in CASES
        for form in ([Form(), Form(batch=2, size=(7, 9))] if function in ANY_SIZE else [Form(batch=2, size=(7, 9))])
        for name in primitives(jax.make_jaxpr(function)(form.image()).jaxpr)
    }
    assert onnx_operations.OPERATIONS - seen <= onnx_operations.AS_IT_IS | {"add_any"}


def test_sizes_are_computed_as_jax_computes_them():
    def sizes(image):
        batch, height, width, _ = image.shape
        found = [-(-height // 4), (height - 9) // 4, (height - 9) % 4, height * width - batch, 2 * height * height]
        return jnp.stack([jnp.asarray(one, jnp.int32) for one in found])

    model = onnx_file.model_of(sizes, Form(), (), "")
    for height in (1, 8, 12):
        image = np.zeros((2, height, 5, 3), np.uint8)
        expected = [-(-height // 4), (height - 9) // 4, (height - 9) % 4, 5 * height - 2, 2 * height * height]
        assert onnx_file.run(model, image).tolist() == expected


def test_a_choice_by_platform_is_one_convolution():
    model = onnx.load_from_string(onnx_file.model_of(of_a_choice, Form(), (), ""))
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    assert {one.name: one.i for one in convolution.attribute}["group"] == 3


def test_a_convolution_moves_no_data_but_the_image():
    def three(image):
        x, numbers_ = numbers(image), ("NHWC", "HWIO", "NHWC")
        for _ in range(3):
            x = jnp.maximum(
                lax.conv_general_dilated(x, KERNEL[..., :3], (1, 1), "SAME", dimension_numbers=numbers_), 0.0
            )
        return jnp.argmax(x, -1).astype(jnp.int32)

    model = onnx.load_from_string(onnx_file.model_of(three, Form(batch=1, size=(8, 8)), ("a", "b"), ""))
    operations = [node.op_type for node in model.graph.node]
    assert operations.count("Transpose") == 1 and operations.count("Relu") == operations.count("Conv") == 3
    assert {prop.key: prop.value for prop in model.metadata_props} == {"classes": '["a", "b"]'}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: jnp.sort(numbers(image), axis=1), "operation sort, which is not written to ONNX"),
        (lambda image: lax.conv_transpose(numbers(image), KERNEL, (2, 2), "SAME"), "transposed convolution"),
        (lambda image: numbers(image).astype(jnp.complex64), "type complex64"),
        (lambda image: lax.reduce(numbers(image), 0.0, lambda x, y: x + 2 * y, (1,)), "operation reduce,"),
    ],
)
def test_what_has_no_form_is_one_line(function, message):
    with pytest.raises(UserError, match=message):
        onnx_file.model_of(function, Form(batch=1, size=(8, 8)), (), "")
