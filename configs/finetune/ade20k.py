"""Fine-tuning on ADE20K (METHOD.md section 6)."""

from mdp_jax import configs


def get_config():
    config = configs.finetune()
    config.dataset = configs.ade20k()
    config.data.short_side = 512  # to which MMSegmentation resizes before its random scale, and for evaluation
    config.steps = 80_000  # which of the authors' 20k, 40k and 80k is for ADE20K: [ours]
    config.evaluate_every = 8000
    return config
