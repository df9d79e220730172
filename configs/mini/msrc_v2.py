"""Fine-tuning on all training photos of msrc_v2, which is one of the sources of the pretraining too."""

from configs.mini.finetune import finetune


def get_config():
    return finetune("msrc_v2")
