"""Fine-tuning on 40 training photos of labelmefacade."""

from configs.mini.finetune import finetune


def get_config():
    return finetune("labelmefacade", limit=40)
