"""Pretraining on COCO-Stuff alone, which the authors compare with more datasets (METHOD.md section 7)."""

from mdp_jax import configs


def get_config():
    config = configs.pretrain()
    config.sources = (configs.coco_stuff(),)
    return config
