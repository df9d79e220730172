"""Pretraining on VOC, ADE20K and COCO-Stuff, the authors' largest mixture (METHOD.md section 7)."""

from mdp_jax import configs


def get_config():
    config = configs.pretrain()
    config.sources = (configs.voc(), configs.ade20k(), configs.coco_stuff())  # VOC with the photos of SBD [ours]
    return config
