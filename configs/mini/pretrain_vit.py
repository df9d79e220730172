"""As pretrain_convnext.py, with a ViT-S/16 of 128 channels; docs/weights.md says how it compares."""

from mdp_jax.config import load


def get_config():
    config = load("configs/mini/pretrain_convnext.py")
    config.model.backbone = "vit_small_patch16"
    config.model.width = 1 / 3
    return config
