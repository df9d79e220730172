"""Pretraining on VOC and ADE20K on one GPU with 24 GB.

The compiler's own figure for an A100 is a peak of 14,720 MiB, 60 % of the card, where convolutions take no
workspace of their own (docs/scaling.md, "One GPU"). It was never run on such a card.
"""

from mdp_jax.config import load


def get_config():
    config = load("configs/pretrain/voc_ade.py")
    config.accumulate = 2  # parts of 128 photos of the batch of 256
    config.model.compute_dtype = "bfloat16"
    return config
