"""As camvid11.py, on all training photos of msrc_v2, which is one of the sources of the pretraining too."""

from mdp_jax import configs
from mdp_jax.config import load


def get_config():
    config = load("configs/mini/camvid11.py")
    config.dataset = configs.folder("msrc_v2", root="msrc_v2")
    return config
