"""As camvid11.py, on 40 training photos of labelmefacade."""

from mdp_jax import configs
from mdp_jax.config import load


def get_config():
    config = load("configs/mini/camvid11.py")
    config.dataset = configs.folder("labelmefacade", root="labelmefacade", limit=40)
    return config
