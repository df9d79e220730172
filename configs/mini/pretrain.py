"""Pretraining on three small sets of real photos, on two CPU cores; --config.data_dir names their folder."""

from mdp_jax import configs


def get_config():
    config = configs.shrink(configs.pretrain())
    config.sources = tuple(configs.folder(name, root=name) for name in ("msrc_v2", "labelmefacade", "ccp"))
    config.model.projection.channels = 64
    config.model.projection.dim = 64
    config.method.encoder_momentum = 0.99
    config.method.label_stride = 8  # labels where fine-tuning's interpolation puts the features: docs/notes/search.md
    config.batch = 16
    config.steps = 3000
    config.optim.lr = 1.6
    config.optim.warmup_epochs = 1.0
    config.checkpoint_every = 500
    return config
