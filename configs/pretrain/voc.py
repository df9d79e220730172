"""Pretraining on VOC alone, which the authors compare with more datasets (METHOD.md section 7)."""

from mdp_jax import configs


def get_config():
    config = configs.pretrain()
    config.sources = (configs.voc(),)  # with the photos of SBD [ours]
    return config
