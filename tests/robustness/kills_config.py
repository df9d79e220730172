"""A fine-tuning that saves and validates often, so that signals hit both."""

from tests import tiny


def get_config():
    return tiny.finetune_config(log_every=1, checkpoint_every=3, keep_checkpoints=3, evaluate_every=4, steps=60)
