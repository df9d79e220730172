"""Fine-tuning on all training photos of camvid11, on two CPU cores; --config.data_dir names the folder it lies in."""

from mdp_jax import configs


def get_config():
    config = configs.shrink(configs.finetune())
    config.dataset = configs.folder("camvid11", root="camvid11")
    config.model.decoder.dropout = 0.0
    config.optim.lr = 0.2
    config.optim.weight_decay = 1e-4
    config.batch = 16
    config.steps = 500
    config.evaluate_every = 250
    config.checkpoint_every = 250
    return config
