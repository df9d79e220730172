"""Pretraining on VOC, ADE20K and COCO-Stuff, the authors' largest mixture (METHOD.md section 7)."""

from configs import base


def get_config():
    config = base.pretrain()
    config.sources = (base.voc(), base.ade20k(), base.coco_stuff())  # VOC with the photos of SBD [ours]
    return config
