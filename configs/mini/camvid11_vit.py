"""As camvid11_convnext.py, with a ViT-S/16 of 128 channels."""

from mdp_jax.config import load


def get_config():
    config = load("configs/mini/camvid11_convnext.py")
    config.model.backbone = "vit_small_patch16"
    config.model.width = 1 / 3
    return config
