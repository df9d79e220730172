"""Fine-tuning on 25 scenes of the fourth built-in dataset, which the pretraining never saw."""

from mdp_jax import configs


def get_config():
    config = configs.shrink(configs.finetune())
    config.dataset = configs.synthetic("valley", images=25)
    config.model.decoder.dropout = 0.0
    config.optim.lr = 0.2  # better than 0.1 in three seeds of three, from scratch and pretrained: docs/notes/search.md
    config.optim.weight_decay = 1e-4
    config.batch = 16
    config.steps = 200
    config.log_every = 20
    config.evaluate_every = 100
    config.checkpoint_every = 100
    config.keep_best = False  # the runs are compared after equal steps
    config.data.check_files = 0  # drawn, not read
    return config
