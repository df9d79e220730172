"""Fine-tuning on VOC (METHOD.md section 6)."""

from mdp_jax import configs


def get_config():
    config = configs.finetune()
    config.dataset = configs.voc()  # with the photos of SBD [ours]
    config.data.short_side = 512  # to which MMSegmentation resizes before its random scale, and for evaluation
    config.steps = 20_000  # which of the authors' 20k, 40k and 80k is for VOC: [ours]
    config.evaluate_every = 2000
    return config
