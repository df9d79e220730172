"""Counts what a run has used of each dataset: images, epochs, labelled pixels, classes; exact in a resumed run too."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdp_jax import distributed
from mdp_jax.data.batches.bad_images import bad_images
from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.reporting.tables import Table
from mdp_jax.words import some

NAMES = {"ledger", "last_seen"}  # of the totals, and of `last_seen`, in the meta of a checkpoint
_NAMES_SHOWN = 10  # of the classes of a dataset that were never seen


def grown(totals: Sequence[Sequence[int]], label_space: LabelSpace) -> np.ndarray:
    """Totals with zeros for sets at the end that nothing was counted of, as after `mdp adopt --append`.

    Args:
      totals: [S', 1 + largest C_d of the first S' sets].
      label_space: of all S sets.

    Returns:
      int64 [S, 1 + largest C_d].
    """
    sizes = [len(classes) for _, classes in label_space.datasets]
    before, found = np.asarray(totals, np.int64), np.zeros((len(sizes), 1 + max(sizes)), np.int64)
    found[: before.shape[0], : before.shape[1]] = before
    return found


def of_other_run(meta: Mapping[str, Any], label_space: LabelSpace) -> dict[str, Any]:
    """The meta of another run's checkpoint with the rows of this run's sets, in their order.

    The sets with labels are the same in both runs; others may have come, gone or moved. One that came has zeros.

    Args:
      meta: of the checkpoint; "config" and NAMES are read, of which it need not have all.
      label_space: of this run.
    """
    before = [source["name"] for source in meta["config"]["sources"]]
    found = dict(meta)
    for name in NAMES & meta.keys():
        rows = dict(zip(before, meta[name], strict=False))  # sets may be missing at its end (see `grown`)
        found[name] = [rows.get(of, [0] * len(meta[name][0])) for of, _ in label_space.datasets]
    return found


class Ledger:
    """Counts the batches of the loop, on the host.

    Its state is `totals`, int64 [S, 1 + largest C_d]. The row of dataset d has the images, then the labelled pixels of
    each of its classes, before any mixing; 0 where d has fewer classes. The arrays of several processes add up to those
    of the run. The `meta` of a checkpoint has the totals of exactly its step; metrics.jsonl has sums of them, for the
    steps that are logged.

    `last_seen` has the same form: the last step whose batch had such a photo or pixel, as after this step `state.step`
    is; 0 = none, or none that is known of.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        datasets: Sequence[Source],
        before: Sequence[Sequence[int]] | None = None,
        last_seen: Sequence[Sequence[int]] | None = None,
        step: int = 0,
    ):
        """Makes the ledger.

        Args:
          label_space: of the datasets.
          datasets: the sources, in its order.
          before: totals of the run up to the step that it goes on from, as an array or as lists; None for a new run.
            Sets may be missing at its end (see `grown`).
            With several processes, only one of them gets the totals.
          last_seen: of the same run; None where its checkpoints do not have it, as those of earlier versions.
          step: that it goes on from.
        """
        self._label_space = label_space
        self._datasets = datasets
        sizes = [len(classes) for _, classes in label_space.datasets]
        self._totals = np.zeros((len(sizes), 1 + max(sizes)), np.int64)
        # Where the counts of ignored pixels, and then of every global class, are those of a dataset's classes.
        self._counts_of = [1 + np.array(ids, np.int64) for ids in label_space.global_ids]
        if before is not None:
            self._totals += grown(before, label_space)
        self._last_seen, self._step = np.zeros_like(self._totals), step
        if last_seen is not None:
            self._last_seen += grown(last_seen, label_space)
        self._of_run, self._last_seen_of_run = self._totals, self._last_seen.copy()

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Counts a batch.

        Args:
          batch: of data/batches/pipeline.py; `dataset`, int32 [B], and `label`, int16 [B, H, W], are read.
        """
        before = self._totals.copy()
        self._totals[:, 0] += np.bincount(batch["dataset"], minlength=len(self._totals))
        for dataset, label in zip(batch["dataset"].tolist(), batch["label"], strict=True):
            # Photo by photo: this takes 8 bytes a pixel while it counts.
            pixels = np.bincount(label.ravel() + 1, minlength=self._label_space.num_classes + 1)
            own = self._counts_of[dataset]
            self._totals[dataset, 1 : 1 + len(own)] += pixels[own]
        self._step += 1
        self._last_seen[self._totals > before] = self._step

    def add_up(self) -> np.ndarray:
        """Adds up the totals of all processes. With several each must call it.

        Returns:
          int64 [S, 1 + largest C_d], with `before`.
        """
        self._of_run = distributed.total(self.totals())
        self._last_seen_of_run = distributed.largest(self._last_seen.copy())
        return self._of_run

    def of_run(self) -> np.ndarray:
        """The result of the last `add_up`."""
        return self._of_run

    def last_seen(self) -> np.ndarray:
        """int64 [S, 1 + largest C_d], of all processes at the last `add_up`; see the class."""
        return self._last_seen_of_run

    def totals(self) -> np.ndarray:
        """The totals of this process, int64 [S, 1 + largest C_d], with `before`."""
        return self._totals.copy()

    def metrics(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics that metrics.jsonl has of the totals.

        Args:
          totals: of the run.

        Returns:
          dataset_images, dataset_epochs (a dataset's images over its photos), dataset_valid_pixels,
          dataset_unseen_classes (classes without a pixel so far) and dataset_bad_images (photos that this process has
          skipped), each of length S.
        """
        photos = np.array([len(dataset) for dataset in self._datasets])
        return {
            "dataset_images": totals[:, 0],
            "dataset_epochs": np.round(totals[:, 0] / photos, 4),
            "dataset_valid_pixels": totals[:, 1:].sum(axis=1),
            "dataset_unseen_classes": np.array([len(names) for names in self.unseen(totals)]),
            "dataset_bad_images": np.array([bad_images(dataset) for dataset in self._datasets]),
        }

    def unseen(self, totals: np.ndarray) -> list[list[str]]:
        """The names of the classes without a pixel, for each dataset.

        Args:
          totals: of the run.
        """
        return [
            [label for label, pixels in zip(classes, row[1:].tolist(), strict=False) if not pixels]
            for (_, classes), row in zip(self._label_space.datasets, totals, strict=True)
        ]

    def unseen_by_name(self) -> dict[str, list[str]]:
        """{dataset: the names of its classes without a pixel} after the last `add_up`."""
        names = [name for name, _ in self._label_space.datasets]
        return dict(zip(names, self.unseen(self._of_run), strict=True))

    def table(self, totals: np.ndarray, rows: Sequence[dict]) -> Table:
        """Makes the table of the report.

        Args:
          totals: of the run.
          rows: of metrics.jsonl; the last `dataset_loss` is shown.
        """
        metrics = self.metrics(totals)
        measured = [row["dataset_loss"] for row in rows if "dataset_loss" in row]
        losses = measured[-1] if measured else [None] * len(totals)
        names = [name for name, _ in self._label_space.datasets]
        columns = (names, *(metrics[f"dataset_{key}"].tolist() for key in ("images", "epochs", "valid_pixels")), losses)
        unseen = (some(labels, _NAMES_SHOWN) or "none" for labels in self.unseen(totals))
        skipped = metrics["dataset_bad_images"].tolist()
        waits = [row["data_wait_fraction"] for row in rows if "data_wait_fraction" in row]
        caption = f"Waiting for data: {100 * np.mean(waits):.1f} % of the time" if waits else ""
        return Table(
            ["dataset", "images", "epochs", "labelled pixels", "last loss", "classes never seen", "bad photos"],
            list(zip(*columns, unseen, skipped, strict=True)),
            caption,
        )
