"""Pictures of what a network is shown: the samples of a batch with their labels, and where each mixed pixel is from."""

from collections.abc import Mapping, Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.method import mixing
from mdp_jax.reporting import figures
from mdp_jax.reporting.colors import of_classes, of_sets
from mdp_jax.reporting.protocols import Classes, Photos

KINDS = {mixing.PLAIN: "plain", mixing.REGION: "region", mixing.PIXEL: "pixel"}
_OF_PAIRS = ("mix_kind", "lam", "box")  # what a batch holds once for each pair


def class_colours(sources: Sequence[Photos]) -> np.ndarray:
    """The colours of all classes of some sources, one source after the other, uint8 RGB [C, 3].

    A source with a `palette` keeps it; classes of equal names have one colour (colors.of_classes).
    """
    return of_classes([(source.classes, source.palette) for source in sources])


# Of a caption: what the column titles of `pairs` mean.
KEEPS = (
    "Of a mixed sample, the share that it keeps of itself (lambda in the method) stands above; the rest is its "
    "partner's: a box in region mixing, a blend of all pixels in pixel mixing."
)


def choose_pairs(batch: Mapping[str, np.ndarray], numbers: Sequence[int]) -> dict[str, np.ndarray]:
    """The pairs of a pretraining batch with these numbers, in this order, as a batch."""
    chosen = np.asarray(numbers, np.int64)
    members = (2 * chosen[:, None] + np.arange(2)).ravel()
    return {key: array[chosen if key in _OF_PAIRS else members] for key, array in batch.items()}


def pairs(batch: Mapping[str, np.ndarray], label_space: Classes, colours: np.ndarray) -> bytes:
    """Pairs of a pretraining batch: the query view, what mixing makes of it, the key view, and the labels of each.

    One row tells the dataset that each pixel is from; a pixel of two datasets has a blend of their two colours, and the
    legend its weights.

    Args:
        batch: of pipeline.pretrain_batches, B samples in whole pairs.
        label_space: of all datasets.
        colours: uint8 RGB [C, 3], of its classes.

    Returns:
        PNG bytes.
    """
    names = [name for name, _ in label_space.datasets]
    kinds, lams = (np.repeat(batch[key], 2).tolist() for key in ("mix_kind", "lam"))
    mixed, labels, _ = _mix(batch, batch["label"])
    origin, origin_names, origin_colours = _origins(batch, names, label_space.num_classes)
    white = np.full(batch["image"].shape[1:], 255, np.uint8)
    second = [label if kind == mixing.PIXEL else white for label, kind in zip(labels[..., 1], kinds, strict=True)]
    rows: dict[str, Sequence[np.ndarray] | np.ndarray] = {
        "query view": batch["image"],
        "mixed": mixed.round().astype(np.uint8),
        "label": labels[..., 0],
    }
    rows |= {"second label": second} if mixing.PIXEL in kinds else {}
    rows |= {"pixels from": origin}
    if "key_image" in batch:
        rows |= {"key view": batch["key_image"], "key label": batch["key_label"]}
    titles = [
        f"{names[dataset]}\n" + ("plain" if kind == mixing.PLAIN else f"{KINDS[kind]}-mixed, keeps {lam:.0%}")
        for dataset, kind, lam in zip(batch["dataset"], kinds, lams, strict=True)
    ]
    classes = [*label_space.global_names(), *origin_names]
    both = np.concatenate([colours, origin_colours])
    return figures.batch_preview(rows, titles, classes, both, list(labels[..., 0]))


def _mix(batch: Mapping[str, np.ndarray], label: np.ndarray) -> tuple[np.ndarray, ...]:
    """`mixing.mix_pairs` of the query views and some label maps, as the training step has it."""
    mixed = jax.jit(mixing.mix_pairs)(
        jnp.asarray(batch["image"], jnp.float32),
        jnp.asarray(label, jnp.int32),
        *(jnp.asarray(batch[key]) for key in _OF_PAIRS),
    )
    return tuple(np.asarray(array) for array in mixed)


def _origins(
    batch: Mapping[str, np.ndarray], names: Sequence[str], first: int
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """The dataset of each pixel of the mixed views, as label maps of ids from `first` on.

    The datasets come first, then an id of its own for every sample that is a blend of two.

    Returns:
        int32 [B, H, W]; the names of the ids; their colours, uint8 RGB [n, 3].
    """
    own = np.broadcast_to(batch["dataset"][:, None, None], batch["label"].shape)
    _, datasets, weights = _mix(batch, own)
    origin = datasets[..., 0].copy()
    texts, colours = [f"from {name}" for name in names], list(of_sets(len(names)))
    for sample, (two, shares) in enumerate(zip(datasets[:, 0, 0], weights[:, 0, 0], strict=True)):
        if two[1] >= 0:
            origin[sample] = len(texts)
            texts.append("from " + " + ".join(f"{share:.0%} {names[d]}" for d, share in zip(two, shares, strict=True)))
            colours.append(shares @ np.stack([colours[d] for d in two]))
    return origin + first, texts, np.stack(colours).round().astype(np.uint8)


def samples(batch: Mapping[str, np.ndarray], classes: Sequence[str], colours: np.ndarray, first: int = 1) -> bytes:
    """The samples of a fine-tuning batch above their labels.

    Args:
        batch: of pipeline.finetune_batches.
        classes: names, in id order.
        colours: uint8 RGB [C, 3], of the classes.
        first: number of the first sample.

    Returns:
        PNG bytes.
    """
    titles = [str(first + number) for number in range(len(batch["image"]))]
    rows = {"view": batch["image"], "label": batch["label"]}
    return figures.batch_preview(rows, titles, classes, colours, list(batch["label"]))


def examples(
    shown: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], classes: Sequence[str], colours: np.ndarray
) -> bytes:
    """Photos and masks, a row for each class.

    Args:
        shown: class -> (photo uint8 RGB [H, W, 3], label integer [H, W]), at least one for some class.
        classes: names, in id order.
        colours: uint8 RGB [C, 3], of the classes.

    Returns:
        PNG bytes.
    """
    columns = max(map(len, shown.values()))
    white = np.full((3, 4, 3), 255, np.uint8)
    rows = {
        name: [*(cell for pair in found for cell in pair), *([white] * 2 * (columns - len(found)))]
        for name, found in shown.items()
    }
    return figures.batch_preview(rows, ["photo", "mask"] * columns, classes, colours)


def stacked(pictures: Sequence[bytes]) -> bytes:
    """PNGs below each other as one, white where one is narrower."""
    decoded = (cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in pictures)
    arrays = [cv2.cvtColor(array, cv2.COLOR_BGR2RGB) for array in decoded if array is not None]
    width = max(array.shape[1] for array in arrays)
    wide = [np.pad(array, ((0, 0), (0, width - array.shape[1]), (0, 0)), constant_values=255) for array in arrays]
    return figures.encode_png(np.vstack(wide))
