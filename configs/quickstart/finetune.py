"""Fine-tuning on 25 scenes of the fourth built-in dataset, which the pretraining never saw."""

from configs import base
from configs.mini import common


def get_config():
    config = common.shrink(base.finetune())
    config.dataset = base.synthetic("valley", images=25)
    config.model.decoder.dropout = 0.0
    config.optim.weight_decay = 1e-4
    config.batch = 16
    config.steps = 200
    config.log_every = 20
    config.evaluate_every = 100
    config.checkpoint_every = 100
    config.data.check_files = 0  # drawn, not read
    return config
