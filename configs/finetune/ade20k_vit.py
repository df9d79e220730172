"""Fine-tuning ViT-B/16 with UPerNet on ADE20K, by the published recipe of MAE.

The values are those of MMSegmentation 1.2.2's configs/mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py and of its
base configs/_base_/models/upernet_mae.py (arXiv 2111.06377). The network is a plain ViT. Relative positions and the
neck's convolutions of that config are not here. So the published mIoU need not be reached. Weights come with --init, a
file of timm.
"""

from mdp_jax.config import load


def get_config():
    config = load("configs/finetune/ade20k_convnext.py")
    config.model.backbone = "vit_base_patch16"
    config.model.decoder.channels = 768
    config.model.drop_path = 0.1
    config.optim.layer_decay = 0.65
    return config
