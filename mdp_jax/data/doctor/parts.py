"""Opens the splits of datasets, to check them."""

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
    """Opens the splits of datasets as training would, except that photos keep their sizes.

    Args:
      datasets: their configs.
      data: how photos are read.
      data_dir: folder of all datasets.
      seed: of the run.
      splits: names of the splits to open.
      needed: those of them that training opens.

    Returns:
      A Part for each dataset and split. A part that is not needed and cannot be opened is left out.
    """
    # Bad photos are to be found here, so none is skipped.
    as_they_are = DataConfig(crop=data.crop)
    parts = []
    for dataset in datasets:
        for split in splits:
            plain_ids = dataset.kind in KINDS and KINDS[dataset.kind].plain_ids
            part = Part(dataset.name, split, split in needed, plain_ids)
            try:
                part.source = sources.open_source(dataset, as_they_are, data_dir, split, seed)
                if split == "train" and data.on_bad_image == "skip":
                    part.skipped = most_skipped(len(part.opened), data.bad_image_share)
            except UserError as error:
                part.refused = str(error)
            if part.source is not None or part.needed:
                parts.append(part)
    return parts


def label_space_failure(parts: Sequence[Part], kind: str) -> list[str]:
    """The reason why the opened datasets cannot have one label space.

    Args:
      parts: what `open_parts` gives.
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
