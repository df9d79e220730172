"""Pretraining on VOC and ADE20K on one GPU with 16 GB.

The compiler's own figure for an A100 is a peak of 8,134 MiB, 50 % of the card, where convolutions take no
workspace of their own (docs/scaling.md, "One GPU"). It was never run on such a card.
"""

from mdp_jax.config import load


def get_config():
    config = load("configs/pretrain/voc_ade.py")
    config.accumulate = 4  # parts of 64 photos of the batch of 256
    config.model.compute_dtype = "bfloat16"
    return config
