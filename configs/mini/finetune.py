"""What fine-tuning at the mini size shares; the files named after a dataset choose it."""

from configs import base
from configs.mini import common


def finetune(name: str, limit: int = 0):
    """Fine-tuning on the folder `name` under config.data_dir, on `limit` of its training photos (0 = all)."""
    config = common.shrink(base.finetune())
    config.dataset = base.folder(name, root=name, limit=limit)
    config.model.decoder.dropout = 0.0
    config.optim.lr = 0.2
    config.optim.weight_decay = 1e-4
    config.batch = 16
    config.steps = 500
    config.evaluate_every = 250
    config.checkpoint_every = 250
    return config
