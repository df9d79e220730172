"""Counting operations: by hand, by a loop over positions, and against what XLA counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.planning import flops


def operations(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return sum(flops.count(jax.make_jaxpr(function)(*arrays).jaxpr).values())


def test_products_by_hand():
    assert operations(lambda a, b: a @ b, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
    assert operations(lambda a, b: jnp.einsum("bnd,cd->bnc", a, b), (2, 7, 4), (5, 4)) == 2 * 2 * 7 * 4 * 5


def test_elements_reductions_and_scatters_by_hand():
    assert operations(lambda a, b: a * b + 1.0, (6, 5), (6, 5)) == 60
    assert operations(lambda a: jnp.sum(a, axis=1), (6, 5)) == 30
    assert operations(lambda a: jnp.argmax(a, axis=1), (6, 5)) == 30
    assert operations(lambda a: a.reshape(5, 6).T.astype(jnp.bfloat16), (6, 5)) == 0
    ids = np.zeros(6, np.int32)
    added = operations(lambda a: jax.ops.segment_sum(a, ids, 3), (6, 5))
    wrapped = operations(lambda a: jax.ops.segment_sum(a[:, 0], ids, 3), (6, 5))
    assert added - wrapped == 6 * 4  # 30 values are added, or 6; what is done to the ids is the same


def convolution(stride=1, padding=0, dilation=1, input_dilation=1, groups=1):
    return lambda x, kernel: jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        lhs_dilation=(input_dilation, input_dilation),
        rhs_dilation=(dilation, dilation),
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def test_convolution_by_hand():
    """Of the 4 x 3 pairs of output and kernel positions of an axis the two at its ends meet padding."""
    assert operations(convolution(padding=1), (2, 4, 4, 3), (3, 3, 3, 5)) == 2 * 2 * 10 * 10 * 3 * 5


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 3},
        {"padding": 4, "dilation": 4},
        {"padding": 2, "input_dilation": 2},
        {"padding": 1, "groups": 2},
    ],
    ids=str,
)
def test_convolution_by_a_loop(options):
    """Every multiplication of a value of the image by one of the kernel, one at a time."""
    size, taps, channels, features = 9, 3, 4, 6
    stride, dilation = options.get("stride", 1), options.get("dilation", 1)
    spread = options.get("input_dilation", 1)
    values = {spread * i for i in range(size)}
    padded = (size - 1) * spread + 1 + 2 * options["padding"]
    pairs = 0
    for start in range(0, padded - (taps - 1) * dilation, stride):
        for tap in range(taps):
            pairs += start + tap * dilation - options["padding"] in values
    groups = options.get("groups", 1)
    expected = 2 * 2 * pairs**2 * features * (channels // groups)
    assert (
        operations(convolution(**options), (2, size, size, channels), (3, 3, channels // groups, features)) == expected
    )


@pytest.mark.parametrize(
    "options", [{"padding": 1}, {"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2}], ids=str
)
def test_convolution_and_its_gradients_as_xla_counts_them(options):
    shapes = (2, 8, 8, 4), (3, 3, 4, 6)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    forward = convolution(**options)
    out = jax.eval_shape(forward, *arrays)

    def gradients(x, kernel, cotangent):
        return jax.linear_transpose(lambda x: forward(x, kernel), x)(cotangent), jax.linear_transpose(
            lambda kernel: forward(x, kernel), kernel
        )(cotangent)

    for function, inputs in ((forward, arrays), (gradients, [*arrays, out])):
        xla = jax.jit(function).lower(*inputs).cost_analysis()["flops"]
        assert operations(function, *(x.shape for x in inputs)) == xla


def test_scan_bodies_count_as_often_as_they_run():
    def scanned(x, weights):
        return jax.lax.scan(
            lambda x, w: (jax.checkpoint(lambda x: jax.lax.scan(lambda x, _: (x @ w, 0), x, None, 3)[0])(x), 0),
            x,
            weights,
        )[0]

    assert operations(scanned, (2, 4), (7, 4, 4)) == 7 * 3 * 2 * 2 * 4 * 4


def test_choices_and_loops():
    def larger(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x + x, x)

    assert 2 * 4**3 <= operations(larger, (4, 4)) < 2 * 4**3 + 4**2
    product = operations(lambda x: x @ x, (4, 4))
    looped = operations(lambda x: jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x), (4, 4))
    assert looped == product + 1  # and the comparison


def test_parts_by_scope():
    def function(x):
        with jax.named_scope("first"):
            x = jax.lax.scan(lambda x, _: (x @ x, None), x, None, 5)[0]
        return x + 1.0

    jaxpr = jax.make_jaxpr(function)(jnp.zeros((4, 4))).jaxpr
    parts = flops.count(jaxpr, lambda scope: "first" if "first" in scope else "rest")
    assert parts == {"first": 5 * 2 * 4**3, "rest": 16}
