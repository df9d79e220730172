"""Fine-tuning Swin-T with UPerNet on ADE20K, by the published recipe.

The values are those of MMSegmentation 1.2.2's
configs/swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py, which are those of Swin's authors
(arXiv 2103.14030). But biases do not decay here, so the published mIoU need not be reached. Weights come with
--init, a file of timm, torchvision, MMSegmentation or the authors.
"""

from mdp_jax.config import load


def get_config():
    config = load("configs/finetune/ade20k.py")
    config.model.backbone = "swin_tiny"
    config.model.output_stride = 32
    config.model.decoder.name = "upernet"
    config.model.drop_path = 0.3
    config.model.auxiliary.weight = 0.4
    config.optim.name = "adamw"
    config.optim.lr = 6e-5
    config.optim.betas = (0.9, 0.999)
    config.optim.weight_decay = 0.01
    config.optim.warmup_steps = 1500
    config.optim.power = 1.0
    config.optim.lr_min = 0.0
    config.steps = 160_000
    config.evaluate_every = 16_000
    return config
