"""As pretrain.py, with a ConvNeXt-T of 28 to 224 channels and AdamW; docs/weights.md says how it compares."""

from mdp_jax.config import load


def get_config():
    config = load("configs/mini/pretrain.py")
    config.model.backbone = "convnext_tiny"
    config.model.width = 28 / 96
    config.model.output_stride = 16
    config.optim.name = "adamw"
    config.optim.lr = 0.016  # for a batch of 256: 0.001 at a batch of 16
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = (1.0,)
    config.method.label_stride = 16  # as the output stride
    return config
