"""Pretraining on COCO-Stuff alone, which the authors compare with more datasets (METHOD.md section 7)."""

from configs import base


def get_config():
    config = base.pretrain()
    config.sources = (base.coco_stuff(),)
    return config
