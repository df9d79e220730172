"""bfloat16 beside float32: roundings counted by hand, and every network and training step without spoilt operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.parity import precision
from mdp_jax.training import sharding
from tests import tiny

NARROW = jnp.bfloat16
# One backbone of each family, and all decoders.
FAMILIES = {entry.weight_names: name for name, entry in reversed(BACKBONES.items())}.values()
CASES = {
    case.what: case
    for case in precision.cases()
    if case.make is not precision._backbone or case.model.backbone in FAMILIES
}


def jaxpr(function, *arrays):
    return jax.make_jaxpr(function)(*arrays).jaxpr


def test_roundings_by_hand():
    def block(x, kernel):
        """Cast of x and of the kernel, product, sum: 4. The rest moves or chooses values, or is in float32."""
        x = x.astype(NARROW)
        y = x @ kernel.astype(NARROW) + x
        return jax.nn.relu(jnp.concatenate([y, y])).astype(jnp.float32)[:3]

    x, kernels = jnp.ones((3, 3)), jnp.ones((5, 3, 3))
    assert precision.roundings(jaxpr(block, x, kernels[0])) == 4
    rows = jaxpr(lambda x, kernels: jax.lax.scan(lambda x, kernel: (block(x, kernel), None), x, kernels)[0], x, kernels)
    assert precision.roundings(rows) == 5 * 4
    assert precision.roundings(jaxpr(jax.jit(lambda x: x * 2.0), x)) == 0


def test_what_is_spoilt():
    x = jnp.ones((3, 4), NARROW)
    assert precision.spoilt(jaxpr(jax.nn.softmax, x)) == {"exp"}
    assert precision.spoilt(jaxpr(lambda x: jax.nn.softmax(x.astype(jnp.float32)), x)) == set()
    assert precision.spoilt(jaxpr(jax.jit(jax.grad(lambda b: jnp.sum((x + b).astype(jnp.float32)))), x[:1])) == {
        "reduce_sum"
    }


def test_the_cases_are_those_of_the_registries():
    words = " ".join(case.what for case in precision.cases())
    assert all(f"{name}, output stride" in words for name in BACKBONES)
    assert all(f"{name} on" in words for name in DECODERS)


@pytest.mark.parametrize("what", CASES)
def test_softmax_and_normalisations_are_in_float32(what):
    program = precision.program_of(CASES[what])
    assert not precision.spoilt(program)
    assert precision.roundings(program) > 50


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_of_pretraining_sums_in_float32(name):
    """Losses, prototypes and gradients of all that is added to many pixels, such as biases."""
    plain = {} if OBJECTIVES[name].mixes else {"mixing__region": 0.0, "mixing__pixel": 0.0}
    config = tiny.pretrain_config(objective=name, devices=1, model__compute_dtype="bfloat16", **plain)
    program = tiny.pretraining(config, sharding.make_mesh(1), LabelSpace((("a", ("x", "y")), ("b", ("z", "x")))))
    batch = tiny.pretrain_batch(np.random.default_rng(0), config, 4)
    assert not precision.spoilt(precision.of_step(program.step, jax.eval_shape(program.make), batch))


def test_a_step_of_fine_tuning_sums_in_float32():
    """With all that a recipe has. The derivative of GELU is an exponential of each value, which is in bfloat16."""
    values = {"backbone": "vit_small_patch16", "output_stride": 32, "decoder__name": "upernet", "drop_path": 0.1}
    values |= {"auxiliary__weight": 0.4, "compute_dtype": "bfloat16", "width": 1 / 16}
    config = tiny.finetune_config(devices=1, **{f"model__{name}": value for name, value in values.items()})
    program = tiny.finetuning(config, sharding.make_mesh(1), 4)
    batch = {"image": jnp.zeros((8, 32, 32, 3), jnp.uint8), "label": jnp.zeros((8, 32, 32), jnp.int16)}
    found = precision.of_step(program.step, jax.eval_shape(program.make), batch)
    assert not precision.spoilt(found, but=frozenset(("exp",)))


def test_a_value_that_is_no_number_is_out_of_tolerance():
    """Also in an output behind others, such as the features of the last stride."""
    wide, narrow = [np.ones(4), np.full(4, 2.0)], [np.ones(4), np.array([2.0, 2.0, np.nan, 2.0])]
    assert precision._apart(wide, [np.ones(4), np.full(4, 3.0)]) == 0.5
    found = precision._apart(wide, narrow)
    assert np.isnan(found) and not precision.Row("it", 9, found, ()).ok


def test_the_command(monkeypatch, tmp_path, capsys):
    (case,) = (case for case in precision.cases() if case.what == "linear on resnet18, logits")
    monkeypatch.setattr(precision, "cases", lambda: [case])
    words = ["compare", "--precision", "--json", str(tmp_path / "rows.json")]
    assert cli.run(words) == 0
    assert "1 rows, 0 out of tolerance" in capsys.readouterr().out
    monkeypatch.setattr(precision, "ROUNDING", 1e-6)  # as if the network were less precise than its type
    assert cli.run(words) == 1
    with pytest.raises(UserError, match="--backbone resnet5: expected one of resnet18"):
        cli.run([*words, "--backbone", "resnet5"])
    with pytest.raises(UserError, match="--all: rows of parameters"):
        cli.run([*words, "--all"])
