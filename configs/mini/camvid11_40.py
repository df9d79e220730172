"""As camvid11.py, on 40 of its training photos."""

from mdp_jax.config import load


def get_config():
    config = load("configs/mini/camvid11.py")
    config.dataset.limit = 40
    return config
