"""As pretrain.py, with camvid11 among the sources and ccp as the set that the pretraining never sees."""

from mdp_jax import configs
from mdp_jax.config import load


def get_config():
    config = load("configs/mini/pretrain.py")
    config.sources = tuple(configs.folder(name, root=name) for name in ("msrc_v2", "labelmefacade", "camvid11"))
    return config
