"""Paths: ~ in every argument, those in which checkpoints cannot be read again, and those that are none."""

import argparse
import errno
import importlib
import os
import pathlib

import pytest

from mdp_jax import cli, configs
from mdp_jax import config as config_files
from mdp_jax.data.kinds import listing
from mdp_jax.errors import UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.storage import checkpoints, files
from mdp_jax.storage.paths import expanded
from mdp_jax.training import pretraining
from mdp_jax.training.transfer import transfer
from tests import tiny

DATA = tuple(f"data_{name}" for name in ("prepare", "check", "browse"))
# Of all arguments with free text, those that are no paths.
NO_PATHS = {
    "shrinkage",
    "short_side",
    "crop",
    "stride",
    "scales",
    "coordinator",
    "processes",
    "process",
    "classes",
    "seconds",
    "topology",
}
NO_PATHS |= {
    "batch",
    "batch_per_chip",
    "seeds",
    "only",
    "jobs",
    "minutes",
    "gpus",
    "name",
    "splits",
    "workers",
    "shard_mib",
    "count",
    "shrinkage",
    "layer",
    "budgets",
    "photos",
    "draws",
    "answers",
    "adopt",
    "tile",
    "pixels",
    "drop",
    "rename",
    "merge",
    "order",
    "order_sets",
    "host",
    "port",
    "profile",
    "step",
    "slices",
    "price",
    "deadline",
    "margin",
    "near",
    "efficiency",
    "network",
    "backbone",
    "format",
    "size",
    "platforms",
    "license",
}


def parser_of(part):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"mdp_jax.commands.{part.replace('-', '_')}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("part", [part for part in cli.PARTS if part != "data"] + list(DATA))
def test_home_in_every_path_argument(part, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    found = 0
    for action in parser_of(part)._actions:
        takes_text = action.nargs != 0 and action.choices is None and action.dest not in {*NO_PATHS, "help"}
        if takes_text:
            assert action.type is not None, action.dest
            assert action.type("~/r") == "/home/somebody/r", action.dest
            found += 1
    assert found


@pytest.mark.parametrize("part", [part for part in cli.PARTS if part != "data"] + list(DATA))
def test_other_schemes_in_every_path_argument(part):
    for action in parser_of(part)._actions:
        if action.nargs != 0 and action.choices is None and action.dest not in {*NO_PATHS, "help"}:
            for url in ("hdfs://host/run", "http://host/run", "file:///run", "s3:/run"):
                with pytest.raises(argparse.ArgumentTypeError, match=url):
                    action.type(url)
            try:
                assert action.type("gs://bucket/run") == "gs://bucket/run"
            except argparse.ArgumentTypeError as error:
                assert "in a bucket, which this argument does not take" in str(error)


def test_home_in_configs_and_in_python(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("from tests import tiny\nget_config = tiny.pretrain_config\n")
    assert config_files.load("~/mine.py").steps == 12
    assert listing.folder_of("~/set", "~/data", "x") == tmp_path / "set"
    assert listing.folder_of("set", "~/data", "x") == tmp_path / "data" / "set"
    for read in (workdirs.load, checkpoints.load, lambda path: transfer(path, (), {}, {})):
        with pytest.raises(UserError, match=r"r(/config.json)?: (missing|no such file)"):
            read("~/r")
    monkeypatch.setattr(pretraining, "_pretrain", lambda config, folder, *rest: pathlib.Path(folder, "here").touch())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").mkdir()
    pretraining.pretrain(tiny.pretrain_config(), "~/w")
    assert (tmp_path / "w" / "here").exists() and not (tmp_path / "~").exists()


def test_a_home_that_is_not_known(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"~nobody-there/x: no home folder is known for ~nobody-there"):
        expanded("~nobody-there/x")
    (tmp_path / "~photo.jpg").touch()
    assert expanded("~photo.jpg") == pathlib.Path("~photo.jpg")  # a file of that name


def status(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    err = capsys.readouterr().err
    err = err[err.index("mdp: ") :] if err.startswith("unpacking ") else err
    assert err.count("\n") == 1 and err.startswith("mdp: "), err
    return stop.value.code, err


@pytest.mark.parametrize("character", list("[]{}*?\\"))
@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "--config", "configs/mini/pretrain.py", "--workdir"],
        ["finetune", "--config", "configs/mini/cityscapes.py", "--workdir"],
        ["quickstart", "--workdir"],
        ["reproduce", "--suite", "mini-synthetic", "--workdir"],
        ["evaluate", "--checkpoint"],
        ["convert", "--from", "mdp", "--to", "mmseg"],
    ],
    ids=lambda words: words[0],
)
def test_paths_in_which_nothing_could_be_read_again(words, character, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"a{character}b" / "run"
    if words[0] in ("evaluate", "convert"):  # of a run whose folder was renamed
        folder.mkdir(parents=True)
        config = tiny.finetune_config()
        (folder / "config.json").write_text(__import__("json").dumps(config_files.to_dict(config)))
        (folder / "label_space.json").write_text('[{"dataset": "valley", "class": "a", "global_id": 0}]')
    more = [str(tmp_path / "out.safetensors")] if words[0] == "convert" else []
    code, err = status([*words, str(folder), *more], capsys)
    assert code == 2 and f"has the character {character!r}" in err
    assert words[0] in ("evaluate", "convert") or not folder.exists()


def test_a_prepared_set_and_predictions_may_lie_there(tmp_path):
    folder = files.require_regular(__file__, "a file")  # reading one file has no need of patterns
    assert folder.st_size
    assert listing.folder_of("[a]", str(tmp_path), "x") == tmp_path / "[a]"


LONG = "x" * 300
OSERRORS = [errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EACCES, errno.ESTALE]


@pytest.mark.parametrize("number", OSERRORS)
def test_what_the_system_says_of_a_path_is_one_line(number, monkeypatch, capsys):
    def explode(arguments):
        raise OSError(number, os.strerror(number), f"a/{LONG}")

    monkeypatch.setattr(cli, "run", explode)
    code = 75 if number == errno.ESTALE else 2
    assert status([], capsys) == (
        code,
        capsys.readouterr().err or f"mdp: a/{LONG}: {os.strerror(number)}{_end(number)}\n",
    )


def _end(number):
    if number == errno.ESTALE:
        return "; the same command goes on once the disk answers again"
    return "" if number == errno.EACCES else "; expected a path that can be used"


@pytest.mark.parametrize("path", [LONG, "/" + "x/" * 3000, "/dev/null/x", "/proc/version/x"])
@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "--config", "configs/mini/pretrain.py", "--workdir"],
        ["pretrain", "--workdir", "w", "--config"],
        ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "w", "--init"],
        ["evaluate", "--checkpoint"],
        ["data", "check", "streets", "--kind", "folder", "--root"],
        ["data", "check", "streets", "--kind", "folder", "--data_dir"],
        ["data", "prepare", "streets", "--kind", "folder", "--data_dir", ".", "--archive"],
        ["reproduce", "--suite", "mini-synthetic", "--list", "--scores"],
        ["convert", "--from", "mmseg", "--to", "mmseg", "x.safetensors"],
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_paths_that_are_none(words, path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert status([*words, path], capsys)[0] == 2


def test_nul(tmp_path):
    for read in (config_files.load, workdirs.load, checkpoints.load):
        with pytest.raises(UserError, match="expected a path without NUL"):
            read(f"{tmp_path}/a\0b")
    with pytest.raises(UserError, match="NUL"):
        configs.folder("x", root="a\0b")


EMPTY = [
    ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", ""],
    ["finetune", "--config", "configs/quickstart/finetune.py", "--workdir="],
    ["adopt", "--config", "configs/quickstart/finetune.py", "--checkpoint", "c", "--workdir", ""],
    ["reproduce", "--suite", "mini-synthetic", "--workdir", ""],
    ["quickstart", "--workdir", ""],
    ["evaluate", "--checkpoint", ""],
    ["export", "--checkpoint", "", "--out", "o"],
    ["export", "--checkpoint", "c", "--out", ""],
    ["serve", "--checkpoint", ""],
    ["report", ""],
    ["convert", "--from", "mdp", "--to", "mmseg", "", "out.safetensors"],
    ["convert", "--from", "mdp", "--to", "mmseg", "c", ""],
    ["predict", "--checkpoint", "c", "--out", "", "a.jpg"],
    ["predict", "--checkpoint", "c", "--out", "o", ""],
    ["data", "browse", "streets", "--out", ""],
    ["data", "prepare", "streets", "--data_dir", ""],
    ["finetune", "--config", "configs/quickstart/finetune.py", "--workdir", "w", "--continue_from", ""],
    ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "w", "--init", ""],
    ["bench", "step", "--config", ""],
    ["edit-bank", "--checkpoint", "c", "--workdir", "w", "--config", ""],
    ["adopt", "--config", "configs/quickstart/finetune.py", "--checkpoint", "", "--workdir", "w"],
]


@pytest.mark.parametrize("words", EMPTY, ids=lambda words: " ".join(words[:1]))
def test_a_variable_that_nobody_has_set_is_not_the_folder_one_is_in(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, err = status(words, capsys)
    assert code == 2 and "an empty text; expected a path" in err
    assert not list(tmp_path.iterdir())


def test_bytes_that_no_checkpoint_can_have_in_its_path(tmp_path, capsys):
    for part, config in (("pretrain", "pretrain"), ("finetune", "finetune")):
        words = [part, "--config", f"configs/quickstart/{config}.py", "--workdir", str(tmp_path / "a\udcff")]
        code, err = status(words, capsys)
        assert code == 2 and "has bytes that are no UTF-8" in err
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_cannot_be_made_is_said_before_any_photo_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(pretraining, "_pretrain", None)
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b", "/dev/null/x"):
        with pytest.raises(UserError, match="a file; expected a folder"):
            pretraining.pretrain(tiny.pretrain_config(), folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=rf"new: Permission denied in {tmp_path}; expected a folder to write to"):
        pretraining.pretrain(tiny.pretrain_config(), tmp_path / "new")
