"""As pretrain.py, with camvid11 among the sources and msrc_v2 as the set that the pretraining never sees."""

from mdp_jax import configs
from mdp_jax.config import load


def get_config():
    config = load("configs/mini/pretrain.py")
    config.sources = tuple(configs.folder(name, root=name) for name in ("labelmefacade", "ccp", "camvid11"))
    return config
