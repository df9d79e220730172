"""Workdirs that an earlier version made, before its configs could grow: tests/fixtures/earlier_version.tar.gz.

`pretrained`, `multi_head` and `finetuned` (from `pretrained`), each with the checkpoints of steps 2 and 4;
NAME_step4.npz beside them has the weights of step 4. Their configs are those of tests/tiny.py with VALUES.
"""

import pathlib
import tarfile

from tests import tiny

NAMES = ("pretrained", "multi_head", "finetuned")
VALUES = {
    "steps": 4,
    "checkpoint_every": 2,
    "keep_checkpoints": 2,
    "devices": 1,
    "model__width": 0.015625,
    "model__decoder__channels": 4,
}


def unpacked(folder: pathlib.Path) -> pathlib.Path:
    """Unpacks the workdirs into a folder, and returns it."""
    with tarfile.open(pathlib.Path(__file__).with_name("fixtures") / "earlier_version.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def config_of(name: str):
    """The config of a workdir as this version makes it."""
    if name == "finetuned":
        return tiny.finetune_config(init="pretrained", keep_best=False, **VALUES)
    return tiny.pretrain_config(objective="multi_head" if name == "multi_head" else "mdp", **VALUES)
