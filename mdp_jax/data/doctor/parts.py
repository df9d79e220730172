"""The splits of some datasets, opened to be looked at."""

from collections.abc import Sequence

from mdp_jax.configs import DataConfig, SourceConfig
from mdp_jax.data import label_space, sources
from mdp_jax.data.batches.bad_images import most_skipped
from mdp_jax.data.doctor.findings import Part
from mdp_jax.data.kinds import KINDS
from mdp_jax.errors import UserError


def open_parts(
    datasets: Sequence[SourceConfig],
    data: DataConfig,
    data_dir: str,
    seed: int,
    splits: Sequence[str],
    needed: Sequence[str],
) -> list[Part]:
    """Opens the splits of datasets as training would, but for the sizes of the photos.

    Args:
      datasets: their configs.
      data: how photos are read.
      data_dir: folder of all datasets.
      seed: of the run.
      splits: that are looked at.
      needed: those of them that training opens.

    Returns:
      A Part for each dataset and split. One that is not needed and cannot be opened is left out.
    """
    # Bad photos are to be found here, so none is skipped.
    as_they_are = DataConfig(crop=tuple(data.crop))
    parts = []
    for dataset in datasets:
        for split in splits:
            plain_ids = dataset.kind in KINDS and KINDS[dataset.kind].plain_ids
            part = Part(dataset.name, split, split in needed, plain_ids)
            try:
                part.source = sources.open_source(dataset, as_they_are, data_dir, split, seed)
                if split == "train" and data.on_bad_image == "skip":
                    part.skipped = most_skipped(len(part.source), data.bad_image_share)
            except UserError as error:
                part.refused = str(error)
            if part.source is not None or part.needed:
                parts.append(part)
    return parts


def label_space_failure(parts: Sequence[Part], kind: str) -> list[str]:
    """Why the classes of the datasets that were opened cannot stand side by side.

    Args:
      parts: of `open_parts`.
      kind: of the label space, one of label_space.KINDS.

    Returns:
      A line, or none.
    """
    opened = [part.source for part in parts if part.source is not None and part.split == parts[0].split]
    try:
        if opened:
            label_space.build(opened, kind)
    except UserError as error:
        return [str(error)]
    return []
