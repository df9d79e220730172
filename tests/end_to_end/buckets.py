"""Runs whose workdir, weights, config and photos are in a bucket on loopback: `python -m tests.end_to_end.buckets -h`.

kills: a run that is killed five times ends as the run on disk, bit for bit, on S3 and on Google's storage. processes:
two that are stopped, four that lose one, and one that goes on to the end. speed: images a second with 20 ms of latency
a request.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import tempfile
import time
from typing import Any

import jax
import numpy as np

from mdp_jax import config as config_files
from mdp_jax import configs
from mdp_jax.data.kinds import KINDS
from mdp_jax.storage import buckets, checkpoints
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training import loop, pretraining
from tests.data.fixtures import write_jpeg, write_png
from tests.end_to_end import processes
from tests.storage.emulators import Storage, copied, started

_LONGEST = 1800.0  # seconds that a run is waited for: a machine may be busy
SPEED = ("images_per_second", "data_wait_fraction")  # values of a row that differ from run to run
CONFIG = '''"""Two sets of drawn photos, as files."""

from beside import shrink
from mdp_jax import configs


def get_config():
    config = configs.pretrain()
    config.sources = tuple(configs.folder(name, root=name) for name in ("harbor", "town"))
    return shrink(config)
'''
FINETUNE = '''"""Fine-tuning on one of them."""

from beside import shrink
from mdp_jax import configs


def get_config():
    config = configs.finetune()
    config.dataset = configs.folder("town", root="town")
    config.pictures = 0
    config.evaluate_every = 0
    return shrink(config, 2)
'''
BESIDE = """def shrink(config, steps=8):
    config.model.backbone = "resnet18"
    config.model.width = 0.0625
    config.model.decoder.channels = 8
    config.model.decoder.rates = (1, 2)
    config.model.projection.channels = 8
    config.model.projection.dim = 8
    config.data.crop = (32, 32)
    config.batch = 8
    config.log_every = 2
    config.checkpoint_every = 2
    config.steps = steps
    if "warmup_epochs" in config.optim:
        config.optim.warmup_epochs = 0.0
    return config
"""


def draw(folder: pathlib.Path, photos: int = 6, size: tuple[int, int] = (40, 48)) -> None:
    """Two sets as folders of photos and masks, a config with a module beside it."""
    for name in ("harbor", "town"):
        for split in ("train", "val"):
            config = configs.synthetic(name, images=photos, val_images=2, size=size)
            source = KINDS["synthetic"].source(config, "", split)
            for part in ("images", "masks"):
                (folder / name / part / split).mkdir(parents=True)
            for index in range(len(source)):
                sample = source[index]
                write_jpeg(folder / name / "images" / split / f"{index:04d}.jpg", sample["image"][..., ::-1])
                write_png(folder / name / "masks" / split / f"{index:04d}.png", sample["label"] % 256)
            (folder / name / "classes.txt").write_text("".join(f"{label}\n" for label in source.classes))
    (folder / "pretrain.py").write_text(CONFIG)
    (folder / "finetune.py").write_text(FINETUNE)
    (folder / "beside.py").write_text(BESIDE)


def words(data: str, workdir: str, *others: str) -> list[str]:
    """The command of a pretraining whose config lies beside its data."""
    return ["pretrain", "--config", f"{data}/pretrain.py", f"--config.data_dir={data}", "--workdir", workdir, *others]


def require_same(ours: str, expected: str) -> int:
    """Checks that two workdirs ended alike, bit for bit, and logged the same; returns the number of arrays."""
    states = [checkpoints.load(folder).state for folder in (ours, expected)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    rows = [[{k: row[k] for k in row if k not in SPEED} for row in read_metrics(place)] for place in (ours, expected)]
    if rows[0] != rows[1]:
        raise AssertionError(f"other metrics: {rows}")
    return len(jax.tree.leaves(states[0]))


def last_step(workdir: str) -> int:
    """The last step that was logged, 0 where there is none."""
    rows = read_metrics(workdir)
    return rows[-1]["step"] if rows else 0


def start(storage: Storage | None, command: list[str], cache: pathlib.Path, count: int = 1, devices: int = 2) -> list:
    """Starts a command in so many processes, with a cache of photos of its own."""
    variables = dict(storage.environment) if storage else {}
    # Of all processes of a study, whatever their photos.
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache.parent / "compiled")}
    compiled["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return processes.start(command, count, devices, XDG_CACHE_HOME=str(cache), **{**compiled, **variables})


def finish(runs: list, status: int = 0) -> None:
    """Waits for the end, which must have this status."""
    done = processes.finish(runs, timeout=_LONGEST)
    if any(found != status for found, _ in done):
        raise AssertionError(done)


def torment(
    storage: Storage, command: list[str], workdir: str, cache: pathlib.Path, kills: int, seed: int
) -> list[dict]:
    """Runs to the end through so many kill -9, each at a random moment after a step that is new."""
    rng, events = random.Random(seed), []
    while len(events) < kills:
        (run,) = start(storage, command, cache)
        target = last_step(workdir) + rng.randint(1, 3)
        while run.poll() is None and last_step(workdir) < target:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.5))
        run.send_signal(signal.SIGKILL)
        ((status, output),) = processes.finish([run])
        whole = checkpoints.steps_in(BucketPath(f"{workdir}/checkpoints"))
        begun = sorted(name for name in buckets.entries(f"{workdir}/checkpoints"))
        events.append({"status": status, "step": last_step(workdir), "whole": whole, "begun": begun})
        print(json.dumps(events[-1]), flush=True)
        if status == 0:
            raise AssertionError("the run was at its end; expected more steps for so many kills")
        if status != -signal.SIGKILL:
            raise AssertionError(output)
    finish(start(storage, command, cache))
    return events


def kills(folder: pathlib.Path, schemes: list[str], count: int, steps: int, seed: int) -> None:
    """`kills` of this command."""
    draw(folder / "data")
    disk = str(folder / "disk")
    more = [f"--config.steps={steps}", "--config.log_every=1"]
    finish(start(None, words(str(folder / "data"), disk, "--init", _init(folder), *more), folder / "cache"))
    for scheme in schemes:
        with started(scheme) as storage:
            data, run = f"{storage.url}/data", f"{storage.url}/run"
            copied(folder / "data", data)
            command = words(data, run, "--init", f"{data}/init.safetensors", *more)
            events = torment(storage, command, run, folder / f"cache-{scheme}", count, seed)
            arrays = require_same(run, disk)
            cut = sum(set(map(str, event["whole"])) != set(event["begun"]) for event in events)
        print(
            f"{scheme}: {len(events)} kills hit the run, {cut} left a checkpoint half uploaded; "
            f"all {arrays} arrays and the metrics of {steps} steps are those of the run on disk"
        )


def _init(folder: pathlib.Path) -> str:
    """A file of weights beside the data: those of a run of one step with another seed."""
    first = str(folder / "first")
    finish(start(None, words(str(folder / "data"), first, "--config.steps=1", "--config.seed=1"), folder / "cache"))
    file = str(folder / "data" / "init.safetensors")
    finish(start(None, ["convert", "--from", "mdp", "--to", "mmseg", first, file], folder / "cache"))
    return file


def many(folder: pathlib.Path, steps: int) -> None:
    """`processes` of this command: two stopped by a SIGTERM to one, four that lose one, and one to the end."""
    draw(folder / "data")
    more = [f"--config.steps={steps}", "--config.log_every=1", "--config.batch=16", "--config.model.width=0.25"]
    disk = str(folder / "disk")
    finish(start(None, words(str(folder / "data"), disk, *more), folder / "cache", 1, 8))
    with started("s3") as storage:
        data, run = f"{storage.url}/data", f"{storage.url}/run"
        copied(folder / "data", data)
        for number, (count, devices, kind) in enumerate(((2, 4, signal.SIGTERM), (4, 2, signal.SIGKILL))):
            runs = start(storage, words(data, run, *more), folder / "cache-s3", count, devices)
            target = (number + 1) * steps // 3
            while all(one.poll() is None for one in runs) and last_step(run) < target:
                time.sleep(0.05)
            runs[-1].send_signal(kind)
            began = time.monotonic()
            done = processes.finish(runs, timeout=_LONGEST)
            found, waited = [status for status, _ in done], time.monotonic() - began
            good = found[-1] == -kind and 0 not in found if kind == signal.SIGKILL else set(found) == {143}
            if not good:
                raise AssertionError(done)
            whole = checkpoints.steps_in(BucketPath(f"{run}/checkpoints"))
            ended = f"all ended within {waited:.0f} s, with {found}; checkpoints {whole}"
            print(f"{count} x {devices}: {kind.name} to one after step {last_step(run)}; {ended}", flush=True)
        finish(start(storage, words(data, run, *more), folder / "cache-s3", 1, 8))
        losses = [np.array([row["loss"] for row in read_metrics(place)]) for place in (run, disk)]
    # Of the first steps the loss may be 0: no class has a prototype yet.
    apart = np.max(np.abs(losses[0] - losses[1]) / np.maximum(losses[1], 1e-9))
    print(
        f"1 x 8: to the end; the losses of {len(losses[0])} steps are at most {apart:.1e} from those of 1 x 8 on disk"
    )


def measured(data: str, workdir: str, steps: int) -> float:
    """Images a second of a pretraining in this process, from step 20 to its last checkpoint."""
    times: list[float] = []
    config = config_files.load(f"{data}/pretrain.py")
    values = {"data_dir": data, "steps": steps, "log_every": 20, "checkpoint_every": 100, "data.crop": "(64, 64)"}
    config_files.apply_overrides(config, [(key, str(value)) for key, value in values.items()])
    train = loop.train

    def timed(*args: Any) -> Any:
        # By position, as pretraining.py gives them; the hooks are the ninth.
        own = [
            *args[:8],
            dataclasses.replace(args[8], taken=lambda batch: times.append(time.perf_counter())),
            *args[9:],
        ]
        state = train(*own)
        times.append(time.perf_counter())
        return state

    loop.train = timed
    try:
        pretraining.pretrain(config, workdir)
    finally:
        loop.train = train
    return config.batch * (steps - 20) / (times[-1] - times[20])


def speed(folder: pathlib.Path, schemes: list[str], steps: int, latency: float) -> None:
    """`speed` of this command."""
    draw(folder / "data", photos=64, size=(160, 200))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))  # each run makes its programs anew
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    for scheme in schemes:
        with started(scheme) as storage:
            copied(folder / "data", f"{storage.url}/data")
            storage.latency = latency
            found: dict[str, list[float]] = {}
            for number in range(3):
                for name, data, place in (
                    ("disk", str(folder / "data"), str(folder / scheme)),
                    ("bucket", f"{storage.url}/data", f"{storage.url}/run"),
                ):
                    found.setdefault(name, []).append(measured(data, f"{place}-{number}", steps))
            storage.latency = 0
        # The first run of each compiles, and the bucket's fills the cache.
        warm = {name: max(rates[1:]) for name, rates in found.items()}
        print(f"{scheme}: images/s {json.dumps({name: [round(r, 1) for r in rates] for name, rates in found.items()})}")
        print(f"{scheme}: bucket / disk at {latency:g} s a request, warm cache: {warm['bucket'] / warm['disk']:.2f}")


def main() -> None:
    """Runs a study and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=("kills", "processes", "speed"))
    parser.add_argument("--storage", nargs="+", choices=("s3", "gs"), default=["s3", "gs"], help="(default both)")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="(default 30; of speed 220)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds added to each request (default 0.02)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        if args.study == "kills":
            kills(folder, args.storage, args.kills, args.steps or 30, args.seed)
        elif args.study == "processes":
            many(folder, args.steps or 24)
        else:
            speed(folder, args.storage, args.steps or 220, args.latency)


if __name__ == "__main__":
    main()
