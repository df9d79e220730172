"""Pretraining on the three built-in drawn datasets, sized for a minute or two on two CPU cores."""

from mdp_jax import configs


def get_config():
    config = configs.shrink(configs.pretrain())
    config.sources = tuple(configs.synthetic(name, images=500) for name in ("harbor", "meadow", "town"))
    config.model.projection.channels = 64
    config.model.projection.dim = 64
    config.method.encoder_momentum = 0.99
    config.method.label_stride = 8  # labels where fine-tuning's interpolation puts the features: docs/notes/search.md
    config.batch = 16
    config.steps = 600
    config.optim.lr = 1.6
    config.optim.warmup_epochs = 0.5
    config.log_every = 25
    config.checkpoint_every = 300
    config.data.check_files = 0  # drawn, not read
    return config
