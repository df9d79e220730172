"""The learning rate of pretraining in stages, what decays, and the loss, by hand; whole runs are in end_to_end."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.configs import typed
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.segmentation_losses import SegmentationLoss
from mdp_jax.training import optim, programs, sharding
from mdp_jax.training.programs import pretraining_schedule
from tests import tiny


def rates(starts, warmup_epochs, steps):
    config = base.pretrain()
    config.batch, config.steps, config.optim.lr, config.optim.warmup_epochs = 64, steps, 4.0, warmup_epochs
    schedule = pretraining_schedule(config, samples=640, starts=starts)  # an epoch is 10 steps, the peak 1
    return [float(schedule(step)) for step in range(steps + 1)]


def test_one_warmup_and_cosine_of_a_joint_run():
    found = rates((0,), warmup_epochs=0.4, steps=12)
    np.testing.assert_allclose(found[:5], [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose([found[8], found[12]], [0.5, 0.0], atol=1e-6)


def test_every_stage_has_its_own():
    """Stages of 20 and 40 steps: the warm-up of 10 steps is cut to a tenth of each, 2 and 4."""
    found = rates((0, 20), warmup_epochs=1.0, steps=60)
    np.testing.assert_allclose(found[:3], [0.5, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found[2 + 9], 0.5, rtol=1e-6)  # in the middle of 18 steps of the cosine
    assert found[19] < 0.01
    np.testing.assert_allclose(found[20:25], [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose([found[24 + 18], found[60]], [0.5, 0.0], atol=1e-6)


def test_a_short_warmup_stays_as_it_is():
    found = rates((0, 20), warmup_epochs=0.1, steps=60)
    assert found[20] == found[21] == found[0] == found[1] == 1.0


@pytest.mark.parametrize("loop", ["pretraining", "finetuning"])
def test_what_decays_in_each_loop(loop, shallow, monkeypatch):
    """Kernels alone in pretraining (METHOD.md section 5), every parameter in fine-tuning (section 6)."""
    made, make = [], optim.optimizer
    monkeypatch.setattr(
        programs.optim, "optimizer", lambda *args, **named: made.append(make(*args, **named)) or made[0]
    )
    mesh, values = sharding.make_mesh(1), {"optim__weight_decay": 0.25, "optim__lr": 0.5}
    if loop == "pretraining":
        tiny.pretraining(tiny.pretrain_config(optim__lr_rule="sqrt", **values), mesh, LabelSpace((("a", ("b",)),)))
    else:
        tiny.finetuning(tiny.finetune_config(**values), mesh, 2)
    params = {"conv": {"kernel": jnp.array(1.0), "bias": jnp.array(1.0)}, "bn": {"scale": jnp.array(1.0)}}
    updates, _ = made[0].update(
        {"conv": {"kernel": 0.0, "bias": 0.0}, "bn": {"scale": 0.0}}, made[0].init(params), params
    )
    assert updates["conv"]["kernel"] < 0
    others = [float(updates["conv"]["bias"]), float(updates["bn"]["scale"])]
    assert others == ([0.0, 0.0] if loop == "pretraining" else [float(updates["conv"]["kernel"])] * 2)


def test_the_loss_of_a_config():
    of_loss = {"name": "focal", "label_smoothing": 0.1, "ohem_threshold": 0.2, "ohem_kept": 3, "dice_weight": 0.5}
    of_loss |= {"focal_gamma": 1.5, "focal_alpha": 0.75}
    config = typed(tiny.finetune_config(loss_mean="valid", **{f"loss__{key}": v for key, v in of_loss.items()}))
    expected = SegmentationLoss("focal", "valid", (1.0, 2.0), 0.1, 0.2, 3, 1.5, 0.75, 0.5)
    assert programs.loss_of(config, (1.0, 2.0)) == expected
