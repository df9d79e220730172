"""The learning rate of pretraining in stages, by hand; whole runs are in tests/end_to_end/."""

import numpy as np

from mdp_jax import configs as base
from mdp_jax.training.programs import pretraining_schedule


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
