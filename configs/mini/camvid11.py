"""Fine-tuning on all training photos of camvid11."""

from configs.mini.finetune import finetune


def get_config():
    return finetune("camvid11")
