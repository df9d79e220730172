"""A run that saves often, so that many of the kills hit a checkpoint that is being written.

Its crops are large for so small a network, so that it is not over before a signal comes.
"""

from tests import tiny


def get_config():
    return tiny.pretrain_config(log_every=1, checkpoint_every=3, keep_checkpoints=3, steps=40, data__crop="(96, 96)")
