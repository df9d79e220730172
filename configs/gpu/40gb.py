"""Pretraining on VOC and ADE20K on one GPU with 40 GB.

The compiler's own figure for an A100 is a peak of 26,142 MiB, 64 % of the card, where convolutions take no
workspace of their own (docs/scaling.md, "One GPU"). It was never run on such a card.
"""

from mdp_jax.config import load


def get_config():
    config = load("configs/pretrain/voc_ade.py")
    config.model.compute_dtype = "bfloat16"
    config.model.remat = "elementwise"  # so that the batch of 256 fits in one part
    return config
