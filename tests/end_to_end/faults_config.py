"""A run that saves often, so that many of the kills hit a checkpoint that is being written."""

from tests import tiny


def get_config():
    return tiny.pretrain_config(log_every=1, checkpoint_every=3, keep_checkpoints=3, steps=40)
