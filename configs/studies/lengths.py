"""How the features of transfer.py get better with the steps, with a network that keeps a GPU busier.

The worlds, rows and lengths are those of transfer.py. The network has twice the width and sees crops of 96 pixels. At
the size of transfer.py a GPU waits for its next operation most of the time.
"""

import dataclasses

from configs.studies import transfer
from mdp_jax.studies import Overrides, Pretraining, Suite, Target

SEEDS = 5
_WIDTH: Overrides = (("model.width", "0.5"),)
_CROP: Overrides = (("data.crop", "(96, 96)"), ("data.short_side", "128"))


def get_suite() -> Suite:
    """Three ways to pretrain, four lengths, two worlds; nothing is claimed."""
    of = transfer.get_suite()
    names = {name for curve in of.curves for _, cells in curve.points for name, _ in cells}
    contrasts = tuple(row for row in of.ablations if {name for name, _ in row.cells} <= names and "/x" in row.key)
    return Suite(
        "lengths",
        "How features get better with the steps of pretraining, by heads in closed form on a set that was left out; "
        "ResNet-18 of half width, crops of 96 pixels.",
        tuple(_pretraining(row) for row in of.pretrainings if row.name in names),
        tuple(_target(of.target(name)) for name in transfer.LONGER_WORLDS),
        (),
        contrasts,
        curves=of.curves,
        along=of.along,
    )


def _pretraining(row: Pretraining) -> Pretraining:
    world = row.name.rpartition("-")[2]
    return dataclasses.replace(row, overrides=(*row.overrides, *_WIDTH, *_CROP), seeds=SEEDS, targets=(world,))


def _target(row: Target) -> Target:
    return dataclasses.replace(row, overrides=(*row.overrides, *_WIDTH), seeds=())
