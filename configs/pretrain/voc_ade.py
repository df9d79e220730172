"""Pretraining on VOC and ADE20K, the pair of most of the authors' comparisons (METHOD.md section 7)."""

from configs import base


def get_config():
    config = base.pretrain()
    config.sources = (base.voc(), base.ade20k())  # VOC with the photos of SBD [ours]
    return config
