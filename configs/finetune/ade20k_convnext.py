"""Fine-tuning ConvNeXt-T with UPerNet on ADE20K, by the published recipe.

The values are those of MMSegmentation 1.2.2's configs/convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py,
and of its base configs/_base_/models/upernet_convnext.py, which are those of ConvNeXt's authors (arXiv 2201.03545).
Weights come with --init, a file of timm or torchvision.
"""

from mdp_jax.config import load


def get_config():
    config = load("configs/finetune/ade20k.py")
    config.model.backbone = "convnext_tiny"
    config.model.output_stride = 32
    config.model.decoder.name = "upernet"
    config.model.drop_path = 0.4
    config.model.auxiliary.weight = 0.4
    config.model.auxiliary.channels = 256
    config.model.compute_dtype = "bfloat16"
    config.optim.name = "adamw"
    config.optim.lr = 1e-4
    config.optim.betas = (0.9, 0.999)
    config.optim.weight_decay = 0.05
    config.optim.layer_decay = 0.9
    config.optim.warmup_steps = 1500
    config.optim.power = 1.0
    config.optim.lr_min = 0.0
    config.steps = 160_000
    config.evaluate_every = 16_000
    return config
