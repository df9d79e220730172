"""Pretraining on VOC alone, which the authors compare with more datasets (METHOD.md section 7)."""

from configs import base


def get_config():
    config = base.pretrain()
    config.sources = (base.voc(),)  # with the photos of SBD [ours]
    return config
