"""Fine-tuning on COCO-Stuff (METHOD.md section 6)."""

from mdp_jax import configs


def get_config():
    config = configs.finetune()
    config.dataset = configs.coco_stuff()
    config.data.short_side = 512  # to which MMSegmentation resizes before its random scale, and for evaluation
    config.steps = 80_000  # [authors]
    config.evaluate_every = 8000
    return config
