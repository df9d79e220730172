"""Fine-tuning on the trimaps of Oxford-IIIT Pet, as TensorFlow Datasets has them; an example of the kind tfds."""

from mdp_jax import configs


def get_config():
    config = configs.finetune()
    config.dataset = configs.tfds("oxford_iiit_pet", classes=("pet", "background", "border"))
    config.dataset.label_offset = 1  # the trimaps hold 1 to 3
    config.data.short_side = 512
    return config
