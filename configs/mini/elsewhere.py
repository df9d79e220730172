"""As pretrain.py, with camvid11 among the sources and labelmefacade as the set that the pretraining never sees."""

from configs import base
from configs.mini import pretrain


def get_config():
    config = pretrain.get_config()
    config.sources = tuple(base.folder(name, root=name) for name in ("msrc_v2", "ccp", "camvid11"))
    return config
