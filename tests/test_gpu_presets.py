"""The presets for one GPU: what they set, and that the batch is cut into parts that the step can take."""

import pytest

from mdp_jax import config as configs
from mdp_jax.planning import programs

# What a preset sets, and the images of a part that it is to leave.
PRESETS = {
    "16gb": ({"accumulate": 4, "model.compute_dtype": "bfloat16"}, 64),
    "24gb": ({"accumulate": 2, "model.compute_dtype": "bfloat16"}, 128),
    "40gb": ({"model.compute_dtype": "bfloat16", "model.remat": "elementwise"}, 256),
    "80gb": ({"model.compute_dtype": "bfloat16"}, 256),
}


@pytest.mark.parametrize("name", PRESETS)
def test_preset(name):
    expected, part = PRESETS[name]
    config = configs.load(f"configs/gpu/{name}.py")
    values = configs.identity(config)
    plain = configs.identity(configs.load("configs/pretrain/voc_ade.py"))
    assert {key: value for key, value in values.items() if value != plain[key]} == expected
    programs.check(config, devices=1)
    assert config.batch == 256
    assert config.batch // config.accumulate == part and config.batch % config.accumulate == 0
    assert part % 2 == 0  # pairs stay whole


def test_every_preset_is_tested(pytestconfig):
    assert {path.stem for path in (pytestconfig.rootpath / "configs" / "gpu").glob("*.py")} == set(PRESETS)
