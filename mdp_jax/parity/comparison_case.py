"""The inputs of both sides of the comparison: two tiny, complete cases, made from seeds in NumPy.

Every case has three datasets, all kinds of mixing, ignored pixels, a bank in which some classes are unseen (one of them
for good), and the method's peak learning rate from the first step on.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.mixing import REGION
from mdp_jax.models import network
from mdp_jax.models.apply import Network
from mdp_jax.weights.torch_weights import torch_key

NETWORKS = {  # backbone: width, decoder layout, output stride
    "resnet18": (1 / 8, "torchvision", 16),
    "resnet50": (1 / 16, "mmseg", 8),
}
LABEL_SPACE = LabelSpace(
    (
        ("streets", ("road", "car", "sky", "wall")),
        ("fields", ("grass", "sky", "cow")),
        ("rooms", ("wall", "bed", "door")),
    )
)
UNSEEN = (1, 4, 9)  # at the beginning
NEVER_SEEN = 9  # in no label map
CROP, BATCH = (32, 64), 6
FINETUNE_CLASSES, FINETUNE_BATCH = 5, 4
STEPS, RUN_LENGTH = 10, 100  # steps compared, and those that the schedules are made for
PRETRAINING, FINETUNING = "pretraining steps", "fine-tuning steps"  # what sections of the results begin with
PHOTO = (45, 61)  # an evaluation photo, of a size that no stride divides
PEAK_LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Case:
    """One network with everything it is given; arrays are float64 or as mdp_jax/data/batches/pipeline.py gives them.

    Attributes:
      dtype: "float32" or "float64", in which both sides compute.
      pretrain: config of `mdp pretrain`.
      finetune: config of `mdp finetune`.
      f: weights of the query encoder, {"params", "batch_stats"}, as trees of mdp_jax.
      g: weights of the momentum encoder.
      segmenter: weights of the network of fine-tuning.
      bank_vectors: [C, D].
      images_seen: int [C].
      batches: of pretraining, one for each step.
      finetune_batches: one for each step.
      photo: uint8 [1, H, W, 3].
      embeddings: for the losses alone, [B, N, D] unit vectors.
      labels: for the losses alone, int [B, N, 2].
      weights: for the losses alone, [B, N, 2].
    """

    dtype: str
    pretrain: ConfigDict
    finetune: ConfigDict
    f: dict
    g: dict
    segmenter: dict
    bank_vectors: np.ndarray
    images_seen: np.ndarray
    batches: list[dict]
    finetune_batches: list[dict]
    photo: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def _random(name: str) -> np.random.RandomState:
    # RandomState's stream is frozen by NumPy's promise: stored outputs of PyTorch stay valid.
    return np.random.RandomState(zlib.crc32(name.encode()))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _config(file: str, backbone: str, dtype: str, batch: int) -> ConfigDict:
    config = configs.load(file)
    width, layout, stride = NETWORKS[backbone]
    config.model.backbone, config.model.width, config.model.output_stride = backbone, width, stride
    decoder = config.model.decoder
    decoder.layout, decoder.channels, decoder.rates, decoder.dropout = layout, 12, (1, 2, 3), 0.0
    config.model.compute_dtype = config.model.param_dtype = dtype
    config.data.crop = CROP
    config.batch, config.steps = batch, RUN_LENGTH
    return config


def pretrain_config(backbone: str, dtype: str) -> ConfigDict:
    """The config of `mdp pretrain` for a case.

    Args:
      backbone: a key of NETWORKS.
      dtype: "float32" or "float64".
    """
    config = _config("configs/quickstart/pretrain.py", backbone, dtype, BATCH)
    config.model.projection.channels, config.model.projection.dim = 20, 16
    config.method.sparse_classes = 3
    config.method.label_stride = 0  # METHOD.md, section 2, which the PyTorch side repeats
    config.method.loss_chunk = 5 * BATCH  # several chunks, the last one padded
    config.method.encoder_momentum = 0.99
    config.optim.lr, config.optim.warmup_epochs = PEAK_LEARNING_RATE * 256 / BATCH, 0.0
    return config


def finetune_config(backbone: str, dtype: str) -> ConfigDict:
    """The config of `mdp finetune` for a case.

    Args:
      backbone: a key of NETWORKS.
      dtype: "float32" or "float64".
    """
    config = _config("configs/quickstart/finetune.py", backbone, dtype, FINETUNE_BATCH)
    config.optim.lr, config.optim.weight_decay = 0.01, 5e-4
    return config


def weight(name: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws a tensor such that activations keep their size through it.

    Args:
      name: of the network; the values depend on it and on the key.
      key: PyTorch's.
      shape: in PyTorch's layout.

    Returns:
      float64.
    """
    random = _random(f"{name} {key}")
    module, leaf = key.split(".")[-2:]
    if len(shape) == 4:
        return random.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:]))
    if leaf == "weight" and module in ("bn2", "bn3"):
        # Residual branches weaker than the shortcut: otherwise ten steps of a narrow ResNet-50 are chaotic, and make a
        # visible difference of any rounding.
        return random.uniform(0.1, 0.5, shape)
    if leaf in ("weight", "running_var"):
        return random.uniform(0.5, 1.5, shape)
    return 0.2 * random.standard_normal(shape)


def variables(name: str, model: Network) -> dict:
    """Draws the variables of a network.

    Args:
      name: of the network; the values depend on it and on the leaf's own name.
      model: the network.

    Returns:
      {"params", "batch_stats"}.
    """

    def value(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        key, shape = torch_key(path[1:]), leaf.shape
        if len(shape) == 4:
            return weight(name, key, (shape[3], shape[2], shape[0], shape[1])).transpose(2, 3, 1, 0)
        return weight(name, key, shape)

    image = jnp.zeros((2, *CROP, 3), jnp.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    return jax.tree_util.tree_map_with_path(value, shapes)


def _image(random: np.random.RandomState, size: tuple[int, int]) -> np.ndarray:
    """uint8 [*size, 3]: coloured blocks of 8 pixels under noise."""
    blocks = random.randint(0, 200, (size[0] // 8 + 1, size[1] // 8 + 1, 3))
    image = blocks.repeat(8, axis=0).repeat(8, axis=1)[: size[0], : size[1]]
    return (image + random.randint(0, 56, image.shape)).astype(np.uint8)


def _label(random: np.random.RandomState, classes: np.ndarray) -> np.ndarray:
    """int16 [*CROP]: blocks of 8 pixels of the classes or ignored, shifted against the feature grid."""
    blocks = random.choice(np.append(classes, -1), (CROP[0] // 8, CROP[1] // 8))
    return np.roll(blocks.repeat(8, axis=0).repeat(8, axis=1), random.randint(0, 8, 2), (0, 1)).astype(np.int16)


def pretrain_batch(number: int) -> dict:
    """Makes a batch like those of `pretrain_batches` (data/batches/pipeline.py).

    Args:
      number: of the step.
    """
    random, pairs = _random(f"batch {number}"), BATCH // 2
    kind = (np.arange(pairs) + number) % 3
    dataset = random.randint(0, 3, BATCH)
    dataset[1::2] = (dataset[::2] + np.where(kind > 0, random.randint(1, 3, pairs), 0)) % 3
    of_dataset = LABEL_SPACE.dataset_of()
    ids = [np.setdiff1d(np.flatnonzero(of_dataset == d), [NEVER_SEEN]) for d in dataset]
    corners = np.sort(random.randint(0, np.array(CROP)[:, None, None] + 1, (2, pairs, 2)), axis=-1)
    boxes = np.stack([corners[0, :, 0], corners[1, :, 0], corners[0, :, 1], corners[1, :, 1]], axis=-1)
    return {
        "image": np.stack([_image(random, CROP) for _ in ids]),
        "label": np.stack([_label(random, classes) for classes in ids]),
        "key_image": np.stack([_image(random, CROP) for _ in ids]),
        "key_label": np.stack([_label(random, classes) for classes in ids]),
        "mix_kind": kind.astype(np.int32),
        "lam": np.where(kind > 0, random.uniform(0.1, 0.9, pairs), 1).astype(np.float32),
        "box": np.where((kind == REGION)[:, None], boxes, 0).astype(np.int32),
        "dataset": dataset.astype(np.int32),
    }


def finetune_batch(number: int) -> dict:
    """Makes a batch like those of `finetune_batches` (data/batches/pipeline.py).

    Args:
      number: of the step.
    """
    random = _random(f"finetune batch {number}")
    classes = np.arange(FINETUNE_CLASSES)
    return {
        "image": np.stack([_image(random, CROP) for _ in range(FINETUNE_BATCH)]),
        "label": np.stack([_label(random, classes) for _ in range(FINETUNE_BATCH)]),
    }


def _loss_inputs(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of 2 x 23 pixels near prototypes, with one label, two, or none; weights of all sizes."""
    random = _random("losses")
    count, dim = vectors.shape
    embeddings = _unit(vectors[random.randint(0, count, (2, 23))] + 0.5 * random.standard_normal((2, 23, dim)))
    share = random.uniform(0, 1, (2, 23))
    return embeddings, random.randint(-1, count, (2, 23, 2)), np.stack([share, 1 - share], axis=-1)


def make_case(backbone: str, dtype: str, steps: int = STEPS) -> Case:
    """Makes a case.

    Args:
      backbone: a key of NETWORKS.
      dtype: "float32" or "float64".
      steps: number of batches.
    """
    pretrain, finetune = pretrain_config(backbone, dtype), finetune_config(backbone, dtype)
    # Their shapes are the same in either dtype, and float64 could not be asked for here.
    encoder = network.pixel_encoder(pretrain_config(backbone, "float32").model)
    segmenter = network.segmenter(finetune_config(backbone, "float32").model, FINETUNE_CLASSES)
    vectors = _unit(_random("bank").standard_normal((LABEL_SPACE.num_classes, pretrain.model.projection.dim)))
    images_seen = np.arange(7, 7 + LABEL_SPACE.num_classes)
    vectors[list(UNSEEN)], images_seen[list(UNSEEN)] = 0, 0
    embeddings, labels, weights = _loss_inputs(vectors)
    return Case(
        dtype,
        pretrain,
        finetune,
        f=variables("f", encoder),
        g=variables("g", encoder),
        segmenter=variables("segmenter", segmenter),
        bank_vectors=vectors,
        images_seen=images_seen,
        batches=[pretrain_batch(i) for i in range(steps)],
        finetune_batches=[finetune_batch(i) for i in range(steps)],
        photo=_image(_random("photo"), PHOTO)[None],
        embeddings=embeddings,
        labels=labels,
        weights=weights,
    )


def sgd_inputs() -> tuple[Mapping[str, np.ndarray], list[Mapping[str, np.ndarray]]]:
    """For SGD alone: weights {"kernel" [1,1,2,3], "bias" [3]} and 100 gradients of theirs, float64."""
    random = _random("sgd")

    def draw() -> dict[str, np.ndarray]:
        return {"kernel": random.standard_normal((1, 1, 2, 3)), "bias": random.standard_normal(3)}

    return draw(), [draw() for _ in range(RUN_LENGTH)]


EVALUATION_CLASSES = 7
LABEL_MAPS = (
    "all classes",
    "class absent from truth",
    "class absent from prediction",
    "class absent from both",
    "ids out of range in the truth",
    "ids out of range in the prediction",
)


def label_maps(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws truth (255 = ignore) and prediction, half of which is right.

    Args:
      kind: one of LABEL_MAPS.

    Returns:
      Two arrays, int [4, 20, 30].
    """
    random, num_classes, absent = _random(kind), EVALUATION_CLASSES, 3
    truth, prediction = random.randint(0, num_classes, (2, 4, 20, 30))
    prediction = np.where(random.uniform(size=truth.shape) < 0.5, truth, prediction)
    if kind in ("class absent from truth", "class absent from both"):
        truth[truth == absent] = 0
    if kind in ("class absent from prediction", "class absent from both"):
        prediction[prediction == absent] = 0
    if kind == "ids out of range in the truth":
        truth[random.uniform(size=truth.shape) < 0.1] = num_classes + 2
    if kind == "ids out of range in the prediction":
        prediction[random.uniform(size=truth.shape) < 0.1] = num_classes
    truth[random.uniform(size=truth.shape) < 0.2] = 255
    return truth, prediction
