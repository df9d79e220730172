"""The config of the runs in several processes: wide enough that float32 is not chaotic over 20 steps."""

from tests import tiny


def get_config():
    config = tiny.pretrain_config(
        model__width=0.25, model__decoder__channels=32, data__crop="(64, 64)", batch=16, devices=0
    )
    config.unlock()
    config.log_every = 1
    config.checkpoint_every = 7
    config.keep_checkpoints = 3
    return config
