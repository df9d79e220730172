"""Fine-tuning on the trimaps of Oxford-IIIT Pet, as TensorFlow Datasets has them; an example of the kind tfds."""

from configs import base


def get_config():
    config = base.finetune()
    config.dataset = base.tfds("oxford_iiit_pet", classes=("pet", "background", "border"))
    config.dataset.label_offset = 1  # the trimaps hold 1 to 3
    config.data.short_side = 512
    return config
