"""Pretraining on VOC and ADE20K, the pair of most of the authors' comparisons (METHOD.md section 7)."""

from mdp_jax import configs


def get_config():
    config = configs.pretrain()
    config.sources = (configs.voc(), configs.ade20k())  # VOC with the photos of SBD [ours]
    return config
