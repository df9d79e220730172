"""What the tests give to PyTorch and to this package alike: cases, and weights and images made from names."""

import functools
import zlib

import jax
import numpy as np

UPSAMPLE_CASES = [
    ((2, 3, 4, 2), (24, 32)),
    ((1, 5, 7, 3), (33, 50)),
    ((1, 1, 1, 2), (3, 5)),
    ((1, 9, 10, 2), (4, 3)),
    ((1, 6, 5, 1), (6, 5)),
    ((1, 7, 2, 1), (3, 11)),
]
NARROW = {  # backbone, channels of the stem, output stride, decoder layout
    "resnet18_d8": ("resnet18", 8, 8, "mmseg"),
    "resnet50_d16": ("resnet50", 4, 16, "torchvision"),
}
PLUS = {"stem": 8, "channels": 32, "fine_channels": 3, "rates": (2, 3, 4)}  # MMSegmentation's DeepLabV3+, made narrow
BACKBONES = [  # library that is compared with, name, output stride
    ("timm", "convnext_tiny", 8),
    ("timm", "vit_small_patch16", 32),
    ("timm", "vit_small_patch14_reg4_dinov2", 14),
    ("timm", "vit_small_patch16_dinov3", 16),
    ("torchvision", "swin_tiny", 32),
    ("mmseg", "swin_tiny", 32),
]
# MMSegmentation's heads by the names of decoders, on a narrow ResNet-18.
HEADS = {"stem": 4, "channels": 6, "kinds": {"upernet": "UPerHead", "fcn": "FCNHead", "segformer": "SegformerHead"}}
CLASSES, CHANNELS, RATES = 5, 6, (1, 2, 3)
SIZE = (2, 33, 40, 3)
# Most of a test's time is compilation; float64 convolutions compile four times as fast this way.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of a PyTorch state dict key, in PyTorch's layout, float64; activations keep their size through it."""
    # RandomState's stream is frozen by NumPy's promise; default_rng's is not.
    random = np.random.RandomState(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[1]
    if leaf == "weight" and len(shape) == 4:
        return random.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:]))
    if leaf in ("weight", "running_var"):
        return random.uniform(0.5, 1.5, shape)
    return 0.2 * random.standard_normal(shape)


def image(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal values [B,H,W,C], float64."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def bn_input(step: int) -> np.ndarray:
    """Values [4,3,5,3] whose mean moves and is large against their spread in the last channel."""
    return (1.0 + 0.1 * step) * image(f"step{step}", (4, 3, 5, 3)) + np.array([0.0, 1.0, 30.0])


def rows(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Five values of each array, evenly spaced, as rows in the order of the keys: small enough to be stored."""
    flat = (arrays[key].reshape(-1) for key in sorted(arrays))
    return np.stack([array[np.linspace(0, array.size - 1, 5).astype(int)] for array in flat])


def torch_key(path: tuple) -> str:
    """PyTorch's name of a leaf at a tree path below the collection: modules joined by dots, leaves renamed."""
    *modules, leaf = [entry.key for entry in path]
    return ".".join([*modules, TORCH_LEAVES[leaf]])


def variables(shapes: dict) -> dict:
    """A tree as `module.init` gives it, from its shapes (jax.eval_shape), with the seeded weights as values."""

    def value(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        key, shape = torch_key(path[1:]), leaf.shape
        if len(shape) == 4:
            tensor = weight(key, (shape[3], shape[2], shape[0], shape[1])).transpose(2, 3, 1, 0)
        else:
            tensor = weight(key, shape)
        return tensor.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, shapes)
