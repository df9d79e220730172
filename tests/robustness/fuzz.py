"""Damaged files and impossible values, by the hundreds, with fixed seeds: `python -m tests.robustness.fuzz --help`.

Each of them is given to the function that a command gives it to, through the command's own handling of errors. It may
succeed, or end in one line with exit status 2. A traceback, several lines, more than 2 GB or more than 60 seconds are
failures. Networks are not compiled here: what a value does in a program is tried by `traced` alone.
"""

import argparse
import collections
import contextlib
import copy
import importlib.util
import io
import json
import pathlib
import pickle
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from mdp_jax import cli, configs
from mdp_jax import config as config_files
from mdp_jax.data import images, sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.data.prepared import archives, manifest
from mdp_jax.evaluation import workdirs
from mdp_jax.evaluation.scores import read_scores
from mdp_jax.reporting import runs as run_reports
from mdp_jax.storage import checkpoints
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.studies import score_files
from mdp_jax.training import finetuning, loop, pretraining, programs, workdir
from mdp_jax.weights import files as weight_files
from mdp_jax.weights import layouts
from tests import earlier, tiny
from tests.data.fixtures import write_folder

SECONDS, BYTES = 60, 2 << 30
Try = tuple[str, Callable[[], Any]]  # what it is, and the call


class Outcome(NamedTuple):
    """How one of them ended.

    Attributes:
      kind: of the input.
      what: which input.
      end: fine, refused, or what was wrong.
      detail: the line, or the traceback.
      seconds: it took.
      peak: bytes that it took at most.
    """

    kind: str
    what: str
    end: str
    detail: str
    seconds: float
    peak: int


def _memory(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since `_forget_peak`."""
    status = pathlib.Path("/proc/self/status")
    found = re.search(rf"{what}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) << 10 if found else 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def _late(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


def attempt(kind: str, what: str, call: Callable[[], Any]) -> Outcome:
    """Makes a call as `mdp` makes those of its parts."""
    said, began, run = io.StringIO(), time.perf_counter(), cli.run
    _forget_peak()
    before = _memory("VmRSS")  # of what was done earlier in this process
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    cli.run = lambda _: call() and 0
    end, detail = "fine", ""
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            cli.main(["fuzz"])
    except SystemExit as stop:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("mdp: ") and "warning" not in line]
        detail = "\n".join(lines)
        if stop.code:
            end = "refused" if stop.code in (2, 75) and len(lines) == 1 else f"status {stop.code}, {len(lines)} lines"
    except BaseException as error:
        end, detail = f"traceback: {type(error).__name__}", traceback.format_exc()
    finally:
        signal.alarm(0)
        cli.run = run
    peak, seconds = max(_memory("VmHWM") - before, 0), time.perf_counter() - began
    if peak > BYTES:
        end, detail = f"{peak >> 20} MiB", f"{end} {detail}"
    return Outcome(kind, what, end, detail, seconds, peak)


# Values and bytes

DEEP = [[[[[[[[[[]]]]]]]]]]
VALUES = (None, True, False, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, -1e308, 1e-320, float("nan"), float("inf"))
VALUES += ("", " ", "text", "0", "\0", "\ud800", "é中", "a\nb", "../..", "/", "x" * 300, "x" * 70000)
VALUES += ([], {}, [1], ["a"], [None], [[1, 2], [3]], {"a": 1}, {"name": 3}, {"": None}, DEEP)
TEXTS = (
    "",
    " ",
    "-1",
    "0",
    "1",
    "2",
    "0.5",
    "-0.0",
    "1e999",
    "nan",
    "inf",
    "9" * 401,
    "-" + "9" * 20,
    "1" + "0" * 5000,
)
TEXTS += ("()", "[]", "{}", "{[]:1}", "{1:2}", "(1,)", "(1,2)", "(0,0)", "(-1,-1)", "(1,'a')", "[[1]]", "((1,2),(3,4))")
TEXTS += (
    "None",
    "True",
    "False",
    "'a'",
    "text",
    "a.b",
    "é中",
    "a\nb",
    "\0",
    "\udcff",
    "x" * 300,
    "x" * 70000,
    "(" * 300,
)
TEXTS += (
    "lambda: 1",
    "__import__('os')",
    "1+1",
    "1j",
    "b'a'",
    "...",
    "[1]*9",
    "{*()}",
    "0x10",
    "1_000",
    "~",
    "~nobody/x",
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Other bytes."""
    kind = rng.randrange(9)
    at = rng.randrange(max(len(data), 1))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if data else b"x"
    if kind == 3:
        return data[:at] + rng.randbytes(rng.randrange(1, 40)) + data[at:]
    if kind == 4:
        return data[:at] + data[at + rng.randrange(1, 40) :]
    if kind == 5:
        return data[:at] + b"\xff" * 4 + data[at + 4 :]
    if kind == 6:
        return data[:at] + data[: rng.randrange(1, 200)] + data[at:]
    if kind == 7:
        return rng.choice([b"", b"\0" * 64, b"\xef\xbb\xbf" + data, data.decode("latin-1").encode("utf-16"), data * 3])
    head = data[: min(64, len(data))]
    spot = rng.randrange(max(len(head), 1))
    return data[:spot] + bytes([rng.randrange(256)]) + data[spot + 1 :]


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def changed(value: Any, rng: random.Random) -> Any:
    """A JSON value of which one part is another, missing, or of another name."""
    value = copy.deepcopy(value)
    path = rng.choice(list(_places(value)))
    if not path:
        return rng.choice(VALUES)
    *parents, last = path
    node = value
    for key in parents:
        node = node[key]
    kind = rng.randrange(5)
    if kind == 0:
        del node[last]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice(("x", "", "a.b", "name", "\ud800"))] = node.pop(last)
    elif kind == 2 and isinstance(node, list):
        node.append(copy.deepcopy(node[last]))
    else:
        node[last] = rng.choice(VALUES)
    return value


def _json_text(value: Any, rng: random.Random) -> bytes:
    """A changed value as JSON; every fourth time its bytes are damaged instead."""
    if rng.random() < 0.25:
        return damaged(json.dumps(value).encode(), rng)
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(changed(value, rng)).encode()
    finally:
        sys.set_int_max_str_digits(limit)


# What is tried


run_part = cli.run  # `attempt` puts another function in its place


class _DoneError(Exception):
    """All that comes before the first step was done."""


def _stop_before_the_first_step(*_: Any, **__: Any) -> None:
    raise _DoneError


@contextlib.contextmanager
def without_programs() -> Iterator[None]:
    """Runs end where their programs would be made."""
    before = programs.pretraining, programs.finetuning
    programs.pretraining = programs.finetuning = _stop_before_the_first_step
    try:
        yield
    except _DoneError:
        pass
    finally:
        programs.pretraining, programs.finetuning = before


def _started(loop_: str, folder: pathlib.Path, overrides: list[tuple[str, str]]) -> None:
    config = config_files.apply_overrides(config_files.load(str(folder / f"{loop_}.py")), overrides)
    run = {"pretrain": pretraining.pretrain, "finetune": finetuning.finetune}[loop_]
    with without_programs():
        run(config, folder / "new")


CONFIG = """
from mdp_jax import configs
from tests import tiny

def get_config():
    config = tiny.{loop}_config()
    with config.unlocked():
        {sources}
        config.data_dir, config.devices = {data!r}, 1
    return config
"""


def _configs(folder: pathlib.Path) -> None:
    """Config files of both loops on folders of photos; runs with them begin, or all that is tried would be refused."""
    for name in ("streets", "rooms"):
        write_folder(folder / "data" / name, size=(40, 48))
    one = "config.dataset = configs.folder('streets', root='streets')"
    both = "config.sources = tuple(configs.folder(name, root=name) for name in ('streets', 'rooms'))"
    for loop_, text in (("pretrain", both), ("finetune", one)):
        (folder / f"{loop_}.py").write_text(CONFIG.format(loop=loop_, sources=text, data=str(folder / "data")))
        _started(loop_, folder, [])


def config_values(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Values given by --config.key=value."""
    keys = {
        loop_: config_files._all_keys(config_files.load(str(folder / f"{loop_}.py")))
        for loop_ in ("pretrain", "finetune")
    }
    while True:
        loop_ = rng.choice(("pretrain", "finetune"))
        key, text = rng.choice(keys[loop_]), rng.choice(TEXTS)
        if rng.random() < 0.1:
            key = rng.choice((key + ".x", key[:-1], "", ".", "sources", "dataset", "model.", key.replace(".", "..")))
        yield (
            f"{loop_} {key}={text:.40}",
            lambda loop_=loop_, key=key, text=text: _started(loop_, folder, [(key, text)]),
        )


def config_files_of_users(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Config files with other values in them, or damaged."""
    keys = ("batch", "sources", "data_dir", "seed", "model", "data", "optim", "init", "steps", "stages", "method")
    number = 0
    while True:
        loop_ = rng.choice(("pretrain", "finetune"))
        text = (folder / f"{loop_}.py").read_text()
        if rng.random() < 0.4:
            content = damaged(text.encode(), rng)
        else:
            value = rng.choice(
                [*map(repr, VALUES[:-1]), "config", "configs", "lambda: 1", "...", "object()", "{[]: 1}"]
            )
            content = text.replace("    return", f"        config.{rng.choice(keys)} = {value}\n    return").encode(
                errors="backslashreplace"
            )
        number += 1
        file = folder / f"user{number}.py"

        def call(file: pathlib.Path = file, content: bytes = content) -> None:
            file.write_bytes(content)
            config = config_files.load(str(file))
            loop_ = pretraining.pretrain if "sources" in config else finetuning.finetune
            with without_programs():
                loop_(config, folder / "new")

        yield f"{file.name}: {content[-60:]!r}", call


def _workdir(folder: pathlib.Path) -> pathlib.Path:
    if not (folder / "earlier").exists():
        earlier.unpacked(folder / "earlier")
    return folder / "earlier"


def workdir_files(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Files of workdirs, as they are read by what comes after the run."""
    good = _workdir(folder)
    target, device = {}, jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for name in ("finetuned", "pretrained"):
        state = checkpoints.load(good / name, say=lambda line: None).state
        shape = lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype, sharding=device)  # noqa: E731
        target[name] = jax.tree.map(shape, state)
    number = 0
    while True:
        name = rng.choice(("finetuned", "pretrained"))
        every = sorted(path for path in (good / name).rglob("*") if path.is_file())
        forms = [path for path in every if path.suffix in (".json", ".jsonl")]
        records = [
            path for path in every if path.name in ("metadata", "_METADATA", "_CHECKPOINT_METADATA", "_sharding")
        ]
        file = rng.choice(rng.choice((forms, forms, records, every)))
        data = file.read_bytes()
        try:
            content = _json_text(json.loads(data), rng)
        except ValueError:
            if file.suffix == ".jsonl" and rng.random() < 0.7:
                rows = [json.loads(line) for line in data.splitlines()]
                spot = rng.randrange(len(rows))
                rows[spot] = changed(rows[spot], rng)
                content = "".join(json.dumps(row, allow_nan=True) + "\n" for row in rows if row != 10**400).encode()
            else:
                content = damaged(data, rng)
        number, place = number + 1, file.relative_to(good / name)
        copied = folder / f"workdir{number}"

        def call(
            name: str = name,
            place: pathlib.Path = place,
            content: bytes = content,
            copied: pathlib.Path = copied,
        ) -> None:
            shutil.copytree(good / name, copied)
            try:
                (copied / place).write_bytes(content)
                run = workdirs.load(copied)
                workdir.require_free_or_same(copied, run.config, run.label_space)
                found = checkpoints.Checkpoints(copied)
                try:
                    found.restore(target[name], say=print)
                finally:
                    found.close()
                rows = read_metrics(copied)
                run_reports.series(rows, "loss", "val_mIoU")
                for scores in copied.glob("evaluation*.json"):
                    read_scores(scores)
            finally:
                shutil.rmtree(copied)

        yield f"{name}/{place}: {content[:60]!r}", call


def records(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """JSON files that are no workdir's."""
    shard = {"file": "a", "records": 2, "bytes": 10, "sha256": "0" * 64, "source": "s"}
    forms = {
        "manifest.json": {
            "version": manifest.VERSION,
            "name": "set",
            "kind": "folder",
            "complete": True,
            "classes": ["sky", "tree"],
            "palette": [[0, 0, 0], [1, 2, 3]],
            "splits": {"train": {"records": 2, "bytes": 10, "shards": [shard]}},
        },
        "scores.json": [{"pretraining": "mdp", "target": "few", "seed": 0, "mIoU": 31.5, "settings": "0" * 16}] * 2,
        "evaluation.json": {"datasets": {"valley": {"mIoU": 31.5, "per_class": {"sky": None}, "images": 3}}},
        "label_space.json": LabelSpace((("a", ("x", "y")), ("b", ("z",)))).rows(),
        "config.json": config_files.to_dict(tiny.finetune_config()),
        "metrics.jsonl": {"step": 3, "loss": 1.5, "dataset_loss": [1.0, None]},
    }
    readers = {
        "manifest.json": lambda file: manifest.read_complete(file.parent),
        "scores.json": score_files._rows,
        "evaluation.json": read_scores,
        "label_space.json": LabelSpace.load,
        "config.json": lambda file: configs.complete(config_files.load_json(file), str(file)),
        "metrics.jsonl": lambda file: read_metrics(file.parent),
    }
    (folder / "records").mkdir(exist_ok=True)
    while True:
        name = rng.choice(sorted(forms))
        content = _json_text(forms[name], rng)
        if name == "metrics.jsonl":
            content = content.replace(b"\n", b" ") + b"\n" + json.dumps(forms[name]).encode() + b"\n"

        def call(name: str = name, content: bytes = content) -> None:
            file = folder / "records" / name
            file.write_bytes(content)
            readers[name](file)

        yield f"{name}: {content[:60]!r}", call


def photos_and_masks(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Photos and masks with damaged bytes, read by themselves and as a dataset."""
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    forms = {
        ".jpg": cv2.imencode(".jpg", pixels)[1].tobytes(),
        ".png": cv2.imencode(".png", pixels // 64)[1].tobytes(),
        ".tif": cv2.imencode(".tif", pixels)[1].tobytes(),
        ".bmp": cv2.imencode(".bmp", pixels)[1].tobytes(),
        ".webp": cv2.imencode(".webp", pixels)[1].tobytes(),
    }
    mask = cv2.imencode(".png", pixels[..., 0] % 3)[1].tobytes()
    number = 0
    while True:
        number += 1
        if rng.random() < 0.5:
            suffix = rng.choice(sorted(forms))
            content = damaged(forms[suffix], rng)
            file = folder / f"photo{suffix}"

            def call(file: pathlib.Path = file, content: bytes = content) -> None:
                file.write_bytes(content)
                images.read_photo(str(file))

            yield f"{file.name}: {number}", call
        else:
            content = damaged(mask, rng)

            def call(content: bytes = content) -> None:
                file = folder / "data" / "streets" / "masks" / "train" / "p1.png"
                before = file.read_bytes()
                try:
                    file.write_bytes(content)
                    config = tiny.finetune_config()
                    dataset = configs.folder("streets", root="streets")
                    source = sources.open_source(dataset, config.data, str(folder / "data"), "train", 0)
                    sources.check_source(source, 5000, print)
                    _ = [source[i] for i in range(len(source))]
                finally:
                    file.write_bytes(before)

            yield f"mask: {number}", call


def weights(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Files of weights."""
    state = {"conv1.weight": np.ones((4, 3, 7, 7), np.float32), "bn1.weight": np.ones(4, np.float32)}
    state |= {f"layer1.0.conv{i}.weight": np.ones((4, 4, 3, 3), np.float32) for i in (1, 2)}
    good = safetensors.numpy.save(state)
    while True:
        content = damaged(good, rng)
        if rng.random() < 0.5:
            size = int.from_bytes(good[:8], "little")
            header = _json_text(json.loads(good[8 : 8 + size]), rng)
            content = len(header).to_bytes(8, "little") + header + good[8 + size :]

        def call(content: bytes = content) -> None:
            file = folder / "w.safetensors"
            file.write_bytes(content)
            found, _ = weight_files.read(file)
            layouts.find(found, str(file))

        yield f"w.safetensors: {content[8:70]!r}", call


class Planted:
    """What a pickle may hold: it makes a file where it is loaded."""

    def __init__(self, file: str):
        self.file = file

    def __reduce__(self) -> tuple:
        return pathlib.Path.touch, (pathlib.Path(self.file),)


def torch_weights(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Files of PyTorch: damaged, of other values, or with a pickle that does something. Nothing where it is missing."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    state = {"conv1.weight": torch.ones(4, 3, 7, 7), "bn1.weight": torch.ones(4)}
    state |= {f"layer1.0.conv{i}.weight": torch.ones(4, 4, 3, 3) for i in (1, 2)}
    odd = [torch.ones(4, dtype=torch.complex64), torch.ones(2).to_sparse(), torch.empty(3, device="meta"), 3, None, "x"]
    odd += [torch.tensor(float("nan")), torch.empty(0, 2**40), torch.ones(1).expand(2**40), [], {}, torch.ones(0)]
    evidence = folder / "was run"
    while True:
        content, kind = state, rng.randrange(4)
        if kind == 1:
            content = state | {rng.choice([*state, "x", 3, ("a",)]): rng.choice(odd)}
        elif kind == 2:
            content = rng.choice(
                [{"state_dict": state}, {"model": state}, {"state_dict": 3}, [state], state["bn1.weight"]]
            )
        elif kind == 3:
            content = rng.choice(
                [state | {"x": Planted(str(evidence))}, Planted(str(evidence)), {"model": Planted("x")}]
            )
        made = io.BytesIO()
        if kind == 3 and rng.random() < 0.3:  # without the archive around it
            made.write(pickle.dumps(content))
        else:
            torch.save(content, made, _use_new_zipfile_serialization=rng.random() < 0.7)
        data = damaged(made.getvalue(), rng) if rng.random() < 0.5 else made.getvalue()

        def call(data: bytes = data) -> None:
            file = folder / "w.pth"
            file.write_bytes(data)
            try:
                found, _ = weight_files.read(file)
                layouts.find(found, str(file))
            finally:
                if evidence.exists():
                    evidence.unlink()
                    raise RuntimeError("a pickle was run")

        yield f"w.pth: {kind} {data[-70:-10]!r}", call


def adoptions(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """`mdp adopt` with odd workdirs, weights, configs and numbers; half of them with damaged photos or masks."""
    good = _workdir(folder)
    number = 0
    values = {
        "--checkpoint": ("", "/", "nothing", "/dev/null", str(folder / "finetune.py"), str(folder / "data"), "a\0b"),
        "--workdir": ("", str(good / "finetuned"), str(folder), "/dev/null/x", "a\0b", str(folder / "[a]"), "\udcff"),
        "--config": ("", "nothing.py", str(folder / "pretrain.py"), str(folder), "/dev/null"),
        "--shrinkage": ("0", "-1", "nan", "inf", "1e-300", "1e300", "", "x", "1e999"),
        "--layer": ("", "nothing", "backbone+backbone", "decoder"),
        "--head": ("", "nothing", "prototypes"),
        "--config.data.short_side": ("-1", "1", "100000", "x"),
        "--config.dataset.limit": ("-1", "1", "99", "None"),
        "--config.dataset.drop_classes": ("('sky',)", "('sky','tree','road')", "3"),
        "--config.data.std": ("(0.0,0.0,0.0)", "(1e-300,1.0,1.0)", "()"),
        "--config.data_dir": ("", "/", "/dev/null"),
    }
    photos = sorted(path for path in (folder / "data" / "streets").rglob("p*.*"))
    while True:
        number += 1
        words = {
            "--checkpoint": str(good / rng.choice(("pretrained", "finetuned"))),
            "--config": str(folder / "finetune.py"),
            "--workdir": str(folder / f"adopted{number}"),
            "--config.data.check_files": "5000",
        }
        option = rng.choice(list(values))
        damage = rng.random() < 0.5
        if not damage:
            words[option] = rng.choice(values[option])
        file = rng.choice(photos)
        content = damaged(file.read_bytes(), rng) if damage else file.read_bytes()

        def call(words: dict[str, str] = words, file: pathlib.Path = file, content: bytes = content) -> None:
            before = file.read_bytes()
            try:
                file.write_bytes(content)
                run_part(["adopt", *(f"{name}={value}" for name, value in words.items())])
            finally:
                file.write_bytes(before)

        yield f"adopt: {file.name if damage else (option, words[option])}", call


def archives_of_releases(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Archives with odd names, or damaged."""
    names = ("a/b.txt", "../x", "/x", "a\\..\\..\\x", "x" * 300, "é", "\udcff", "a\0b", "", ".", "a/", "con")
    number = 0
    while True:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name in ("a/b.txt", rng.choice(names), "é/c.txt"):
                with contextlib.suppress(ValueError, IndexError):
                    archive.writestr(name, b"content")
        content = made.getvalue()
        kind = rng.randrange(3)
        if kind == 0:
            content = damaged(content, rng)
        elif kind == 1:  # bytes that are no UTF-8, said to be
            content = content.replace("é".encode(), b"\xff\xfe")
        number += 1
        into = folder / f"unpacked{number}"

        def call(content: bytes = content, into: pathlib.Path = into) -> None:
            file = folder / "release.zip"
            file.write_bytes(content)
            into.mkdir()
            archives.extract([str(file)], into, "set", lambda done, total: None)

        yield f"release.zip: {content[:50]!r}", call


def lists(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Class lists."""
    good = (folder / "data" / "rooms" / "classes.txt").read_bytes()
    while True:
        content = damaged(good, rng) if rng.random() < 0.7 else rng.choice(TEXTS).encode(errors="surrogateescape")

        def call(content: bytes = content) -> None:
            file = folder / "data" / "rooms" / "classes.txt"
            try:
                file.write_bytes(content)
                _started("pretrain", folder, [])
            finally:
                file.write_bytes(good)

        yield f"classes.txt: {content[:60]!r}", call


def paths(folder: pathlib.Path, rng: random.Random) -> Iterator[Try]:
    """Paths that are none, for everything that takes one."""
    (folder / "file").write_text("x")
    loops = folder / "loop"
    if not loops.is_symlink():
        loops.symlink_to(loops)
    odd = ["", "x" * 300, "/" + "x/" * 3000, "a\0b", "\udcff", str(folder / "file" / "x"), str(folder / "file")]
    odd += [str(folder / "loop"), str(folder / "loop" / "x"), str(folder / "loop.py"), "/dev/null", "/dev/zero"]
    odd += ["/proc/self/mem", "~nobody-there/x", str(folder), "/proc/x/y", "[a]", "*", "\n", "/"]
    good = _workdir(folder)
    calls: dict[str, Callable[[str], Any]] = {
        "config": config_files.load,
        "workdir": workdirs.load,
        "checkpoints": checkpoints.load,
        "photo": images.read_photo,
        "mask": images.read_mask,
        "weights": lambda path: weight_files.read(path + ".safetensors"),
        "weights as they are": weight_files.read,
        "data_dir": lambda path: _started("pretrain", folder, [("data_dir", path)]),
        "root": lambda path: _started("pretrain", folder, [("sources.rooms.root", path)]),
        "init": lambda path: loop and _started("finetune", folder, [("init", path)]),
        "scores": lambda path: score_files._rows(pathlib.Path(path)),
        "archive": lambda path: archives.extract([path], folder / "a", "set", lambda done, total: None),
        "resumed": lambda path: workdir.require_free_or_same(
            path, tiny.finetune_config(), LabelSpace.load(good / "finetuned" / "label_space.json")
        ),
    }
    while True:
        name, path = rng.choice(sorted(calls)), rng.choice(odd)
        yield f"{name} {path:.40}", lambda name=name, path=path: calls[name](path)


KINDS: dict[str, Callable[[pathlib.Path, random.Random], Iterator[Try]]] = {
    function.__name__: function
    for function in (
        config_values,
        config_files_of_users,
        workdir_files,
        records,
        photos_and_masks,
        weights,
        torch_weights,
        adoptions,
        archives_of_releases,
        lists,
        paths,
    )
}


def fuzz(folder: pathlib.Path, count: int, seed: int = 0, kinds: tuple[str, ...] = tuple(KINDS)) -> list[Outcome]:
    """Tries `count` inputs of each kind; returns how each ended."""
    folder.mkdir(exist_ok=True)
    _configs(folder)
    found = []
    for kind in kinds:
        tries = KINDS[kind](folder, random.Random(f"{kind} {seed}"))
        found += [attempt(kind, what, call) for (what, call), _ in zip(tries, range(count), strict=False)]
    return found


def main() -> None:
    """Tries them and prints what came of them; exit status 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150, help="inputs of each kind (default 150)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(pathlib.Path(folder), args.count, args.seed, tuple(args.kinds))
    bad = [outcome for outcome in outcomes if outcome.end not in ("fine", "refused")]
    for outcome in bad:
        print(f"{outcome.kind}: {outcome.what}: {outcome.end}\n{outcome.detail[-1500:]}\n")
    for kind in args.kinds:
        ends = collections.Counter(outcome.end for outcome in outcomes if outcome.kind == kind)
        print(f"{kind}: {', '.join(f'{count} {end}' for end, count in ends.most_common())}")
    slowest, peak = max(outcome.seconds for outcome in outcomes), max(outcome.peak for outcome in outcomes)
    print(f"{len(outcomes)} inputs, {len(bad)} failed; the slowest took {slowest:.1f} s, the largest {peak >> 20} MiB")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
