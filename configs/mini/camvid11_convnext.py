"""As camvid11.py, with the network of pretrain_convnext.py and AdamW."""

from mdp_jax.config import load


def get_config():
    config = load("configs/mini/camvid11.py")
    config.model.backbone = "convnext_tiny"
    config.model.width = 28 / 96
    config.model.output_stride = 16
    config.optim.name = "adamw"
    config.optim.lr = 0.001
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = (1.0,)
    config.optim.lr_min = 0.0
    config.optim.warmup_steps = 50
    return config
