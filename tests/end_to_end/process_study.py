"""The same run in one process and in several: `python -m tests.end_to_end.process_study --help`.

Twenty steps from a filled bank at the peak learning rate, on 8 devices in all.
"""

import argparse
import pathlib
import shutil
import sys

import jax
import numpy as np

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.method.prototypes import Bank, normalise
from mdp_jax.storage import checkpoints as checkpoint
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training import sharding, workdir
from mdp_jax.training.ledger import Ledger
from tests import tiny
from tests.end_to_end import processes

CONFIG = "tests/end_to_end/processes_config.py"
STEPS = 21  # of the run, the first of which is taken when it goes on
LAYOUTS = ((2, 4), (4, 2))  # processes and devices of each, beside one process with all devices


def words_of(dtype: str, steps: int) -> list[str]:
    """Overrides that compute in "float32" or "float64", with so many steps."""
    return [f"--config.model.{key}_dtype={dtype}" for key in ("compute", "param")] + [f"--config.steps={steps}"]


def fill(folder: pathlib.Path, dtype: str = "float32", steps: int = STEPS) -> pathlib.Path:
    """Makes a workdir whose run has taken one step and has a filled bank, at the peak learning rate: no warm-up."""
    overrides = [tuple(word.removeprefix("--config.").split("=")) for word in words_of(dtype, steps)]
    config = configs.apply_overrides(configs.load(CONFIG), overrides)
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets)
    program = tiny.pretraining(config, sharding.make_mesh(1), label_space, samples=12)
    state = program.make()
    vectors = normalise(
        jax.random.normal(jax.random.key(1), tiny.bank(state).vectors.shape, tiny.bank(state).vectors.dtype)
    )
    bank = Bank(vectors, np.ones(len(vectors), np.int32))
    state = tiny.with_memory(state, bank=jax.device_put(bank, tiny.bank(program.shardings)))
    state = state.replace(step=state.step + 1)
    workdir.start(folder, config, label_space)
    checkpoints = checkpoint.Checkpoints(folder)
    photos = {dataset.name: sources.photos_of(dataset) for dataset in datasets}
    meta = {"config": configs.to_dict(config), "label_space": label_space.rows(), "photos": photos}
    nothing = Ledger(label_space, datasets).totals().tolist()
    checkpoints.save(1, state, meta | {"next_batch": 1, "ledger": nothing})
    checkpoints.close()
    return folder


def go_on(
    filled: pathlib.Path, folder: pathlib.Path, count: int, devices: int, dtype: str = "float32", steps: int = STEPS
) -> list:
    """Copies a workdir and starts its run in so many processes with so many devices each."""
    if not folder.exists():
        shutil.copytree(filled, folder)
    words = ["pretrain", "--config", CONFIG, "--workdir", str(folder), *words_of(dtype, steps)]
    return processes.start(words, count, devices)


def losses(folder: pathlib.Path) -> np.ndarray:
    """The loss of every step, which must be there without a gap."""
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == list(range(2, 2 + len(rows)))
    return np.array([row["loss"] for row in rows])


def main() -> None:
    """Runs all layouts and prints how far their losses are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="new folder for the runs")
    args = parser.parse_args()
    for dtype in ("float32", "float64"):
        filled = fill(args.folder / dtype / "filled", dtype)
        results = {}
        for count, devices in ((1, 8), *LAYOUTS):
            folder = args.folder / dtype / f"{count}x{devices}"
            done = processes.finish(go_on(filled, folder, count, devices, dtype), timeout=1800)
            if any(status for status, _ in done):
                sys.exit(str(done))
            results[count, devices] = losses(folder)
        expected = results.pop((1, 8))
        for (count, devices), found in results.items():
            apart = np.max(np.abs(found / expected - 1))
            print(f"{dtype} {count}x{devices}: {len(found)} steps, at most {apart:.1e} relative from 1x8", flush=True)


if __name__ == "__main__":
    main()
