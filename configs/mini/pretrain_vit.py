"""As pretrain.py, with a ViT-S/16 of 128 channels and AdamW; docs/weights.md says how it compares."""

from mdp_jax.config import load


def get_config():
    config = load("configs/mini/pretrain.py")
    config.model.backbone = "vit_small_patch16"
    config.model.width = 1 / 3
    config.model.output_stride = 16
    config.optim.name = "adamw"
    config.optim.lr = 0.016  # for a batch of 256: 0.001 at a batch of 16
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = (1.0,)
    config.method.label_stride = 16  # as the output stride
    return config
