"""Maximum pooling: the form for CPUs beside a plain loop and XLA's own form, and which program gets which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mdp_jax.models import pooling
from mdp_jax.parity import precision
from mdp_jax.planning import collectives, flops

SHAPES = [(2, 8, 6, 3), (1, 7, 10, 2), (2, 5, 9, 2), (1, 1, 1, 2), (1, 2, 1, 2), (1, 3, 4, 1)]


def with_gradient(function):
    """(x, gradient of the output) -> output, and the gradient of x."""

    def run(x, g):
        y, pull = jax.vjp(function, x)
        return y, *pull(g)

    return run


def drawn(shape, dtype=np.float32):
    """Few values, half of them 0 as after a ReLU: most windows have several maxima. Gradients are whole numbers."""
    random = np.random.default_rng(0)
    x = np.maximum(random.integers(-3, 4, shape), 0)
    g = random.integers(-8, 9, (shape[0], -(-shape[1] // 2), -(-shape[2] // 2), shape[3]))
    return jnp.asarray(x, dtype), jnp.asarray(g, dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_against_a_loop(shape):
    x, g = drawn(shape)
    found = jax.jit(with_gradient(pooling.max_pool))(x, g)
    own = jax.jit(with_gradient(pooling._whole))(x, g)
    np.testing.assert_array_equal(jax.jit(pooling._whole_gradient)(x, g), own[1])
    y, of_x = np.zeros(g.shape, np.float32), np.zeros(shape, np.float32)
    for b, row, column, c in np.ndindex(g.shape):
        at, best = None, -np.inf
        for i, j in np.ndindex(3, 3):
            r, s = 2 * row - 1 + i, 2 * column - 1 + j
            if 0 <= r < shape[1] and 0 <= s < shape[2] and x[b, r, s, c] > best:  # the first of equal ones
                at, best = (b, r, s, c), x[b, r, s, c]
        y[b, row, column, c] = best
        of_x[at] += g[b, row, column, c]
    for one, whole, value in zip(found, own, (y, of_x), strict=True):
        np.testing.assert_array_equal(one, value)
        np.testing.assert_array_equal(whole, value)


def test_against_pytorch():
    torch = pytest.importorskip("torch")
    x, g = drawn((2, 9, 12, 4))
    theirs = torch.tensor(np.moveaxis(np.asarray(x), -1, 1), requires_grad=True)
    y = torch.nn.functional.max_pool2d(theirs, 3, stride=2, padding=1)
    y.backward(torch.tensor(np.moveaxis(np.asarray(g), -1, 1)))
    expected = y.detach().numpy(), theirs.grad.numpy()
    for one, value in zip(jax.jit(with_gradient(pooling.max_pool))(x, g), expected, strict=True):
        np.testing.assert_array_equal(np.moveaxis(np.asarray(one), -1, 1), value)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float64])
def test_the_dtype_stays(dtype):
    with jax.enable_x64(dtype == np.float64):
        arrays = drawn((1, 6, 7, 2), dtype)
        for one in jax.jit(with_gradient(pooling.max_pool))(*arrays):
            assert one.dtype == dtype
        wide = [np.asarray(array, np.float32) for array in arrays]
        for one, value in zip(
            jax.jit(with_gradient(pooling.max_pool))(*arrays), with_gradient(pooling._whole)(*wide), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(one, np.float32), value)


def test_accelerators_get_xlas_own_form():
    """For each platform that a program is lowered for, whatever is here."""
    traced = jax.jit(with_gradient(pooling.max_pool)).trace(*drawn((2, 8, 8, 4)))
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.select_and_scatter" in text) == ("stablehlo.reduce_window" in text) == (platform != "cpu")
        assert ("stablehlo.concatenate" in text) == (platform == "cpu")


def test_devices_that_share_a_batch_exchange_nothing():
    split = NamedSharding(Mesh(np.array(jax.devices()[:4]), "batch"), PartitionSpec("batch"))
    arrays = drawn((8, 6, 4, 4))
    step = jax.jit(with_gradient(pooling.max_pool), out_shardings=(split, split))
    compiled = step.lower(*(jax.device_put(one, split) for one in arrays)).compile()
    assert not sum(collectives.count(compiled.as_text()).bytes.values())


def test_readers_of_programs_read_xlas_own_form():
    """What is counted is the same as without a choice."""
    arrays = drawn((2, 8, 8, 4), jnp.bfloat16)
    for forms, given, roundings in (
        ((pooling.max_pool, pooling._whole), arrays[:1], 0),
        ([with_gradient(form) for form in (pooling.max_pool, pooling._whole)], arrays, 1),  # sums of gradients
    ):
        ours, own = (jax.make_jaxpr(form)(*given).jaxpr for form in forms)
        assert flops.count(ours) == flops.count(own)
        assert precision.roundings(ours) == precision.roundings(own) == roundings


def test_photos_of_any_size():
    """A program for all sizes holds XLA's own form, whatever platform it is for."""
    height, width = export.symbolic_shape("h, w")
    exported = export.export(jax.jit(pooling.max_pool), platforms=("cpu", "tpu"))(
        jax.ShapeDtypeStruct((1, height, width, 2), np.float32)
    )
    assert "stablehlo.reduce_window" in exported.mlir_module() and "stablehlo.case" not in exported.mlir_module()
    for shape in ((1, 7, 10, 2), (1, 4, 4, 2)):
        x, _ = drawn(shape)
        np.testing.assert_array_equal(exported.call(x), jax.jit(pooling.max_pool)(x))
