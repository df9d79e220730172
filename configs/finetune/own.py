"""Fine-tuning on a set of your own at the size of a laptop; its folder is --config.dataset.root."""

from mdp_jax import configs


def get_config():
    config = configs.shrink(configs.finetune())
    config.dataset = configs.folder("own", root="own")
    config.steps = 1000
    return config
