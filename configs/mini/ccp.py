"""As camvid11.py, on all training photos of ccp."""

from mdp_jax import configs
from mdp_jax.config import load


def get_config():
    config = load("configs/mini/camvid11.py")
    config.dataset = configs.folder("ccp", root="ccp")
    return config
