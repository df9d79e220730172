"""Configs grow: a key that came later voids no workdir, no config file and no score that was made before it."""

import dataclasses
import json
import types

import pytest

from mdp_jax import config, configs
from mdp_jax.configs import key
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.studies import runs, score_files, suite_files
from mdp_jax.training import workdir
from tests import earlier, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return earlier.unpacked(tmp_path_factory.mktemp("earlier"))


def grown(schema, name, kind, field):
    """A dataclass with one more key."""
    return dataclasses.make_dataclass(
        schema.__name__, [(name, kind, field)], bases=(schema,), frozen=True, kw_only=True
    )


@dataclasses.dataclass(frozen=True)
class WarpConfig:
    """A group that is not there."""

    strength: float = 0.0
    sizes: tuple[int, ...] = ()


def in_loops(monkeypatch, name, kind, field):
    for loop in ("PretrainConfig", "FinetuneConfig"):
        monkeypatch.setattr(configs, loop, grown(getattr(configs, loop), name, kind, field))


def at_the_top(monkeypatch, default=0):
    in_loops(monkeypatch, "dummy", int, key(default, before=0))


def in_a_group(monkeypatch, default=0):
    for loop in ("PretrainConfig", "FinetuneConfig"):
        schema = getattr(configs, loop)
        data = grown(type(schema().data), "dummy", int, key(default, before=0))
        monkeypatch.setattr(configs, loop, grown(schema, "data", data, data()))


def a_whole_group(monkeypatch, default=0):
    in_loops(monkeypatch, "warp", WarpConfig, key(WarpConfig(strength=float(default)), before=WarpConfig()))


def in_the_datasets(monkeypatch, default=0):
    def with_key(kind):
        schema = grown(kind.config_type, "dummy", int, key(default, before=0))

        def made(*args, **values):
            one = kind.config(*args, **values)
            with one.unlocked():
                one.dummy = default
            return one

        return types.SimpleNamespace(config_type=schema, config=made)

    kinds = {name: with_key(configs._kinds()[name]) for name in configs._kinds()}
    monkeypatch.setattr(configs, "_kinds", lambda: kinds)


NEW_KEYS = (at_the_top, in_a_group, a_whole_group, in_the_datasets)


@pytest.mark.parametrize("name", earlier.NAMES)
def test_the_config_of_an_earlier_workdir_is_todays(folder, name):
    file = folder / name / "config.json"
    found = configs.complete(config.load_json(file), str(file))
    assert found.is_locked
    assert config.to_dict(found) == config.to_dict(earlier.config_of(name))
    assert configs.typed(found) == configs.typed(earlier.config_of(name))


@pytest.mark.parametrize("add", [None, *NEW_KEYS])
@pytest.mark.parametrize("name", earlier.NAMES)
def test_an_earlier_workdir_opens_and_goes_on(folder, name, add, monkeypatch):
    if add:
        add(monkeypatch)
    monkeypatch.chdir(folder)
    opened = workdirs.load(name)
    assert opened.config.steps == opened.step == 4
    now = configs.complete(earlier.config_of(name), "now")
    workdir.require_free_or_same(folder / name, now, LabelSpace.load(folder / name / "label_space.json"))
    assert opened.label_space.rows() == LabelSpace.load(folder / name / "label_space.json").rows()


@pytest.mark.parametrize("add", [None, *NEW_KEYS])
@pytest.mark.parametrize("suite", ["mini-real", "mini-synthetic"])
def test_all_kept_scores_stay_valid(pytestconfig, suite, add, monkeypatch):
    """With a new key those of seed 0, which differ from the others in their seed alone."""
    if add:
        add(monkeypatch)
        monkeypatch.setattr(runs, "_loaded", runs._loaded.__wrapped__)  # configs that were read before lack the key
    file = pytestconfig.rootpath / "docs" / "results" / f"reproduce-{suite}-scores.json"
    rows = json.loads(file.read_text())
    assert len(rows) == 151
    chosen = runs.of_suite(suite_files.load(suite), most=1 if add else None)
    valid = score_files.read([str(file)], chosen)
    assert len(valid) == (sum(row["seed"] == 0 for row in rows) if add else 151)


@pytest.mark.parametrize("add", NEW_KEYS)
def test_a_key_that_is_on_by_default_is_off_in_what_came_before(folder, add, monkeypatch):
    before = configs.complete(config.load_json(folder / "pretrained" / "config.json"), "old")
    plain = config.identity(before)
    add(monkeypatch, default=3)
    assert config.identity(configs.complete(before, "old")) == plain
    now = tiny.pretrain_config(**earlier.VALUES)
    assert config.identity(configs.complete(now, "now")) != plain
    with pytest.raises(UserError, match=r"started with config\..*(dummy|strength)=0(\.0)?, now 3"):
        config.require_same(config.load_json(folder / "pretrained" / "config.json"), now, "w")


def test_a_config_file_without_the_key(tmp_path, monkeypatch):
    lines = [
        f"VALUES = {config.to_dict(tiny.finetune_config())!r}",
        "def get_config():",
        "    from mdp_jax import config",
    ]
    (tmp_path / "mine.py").write_text("\n".join([*lines, "    return config.from_dict(VALUES)"]))
    at_the_top(monkeypatch, default=3)
    assert config.load(str(tmp_path / "mine.py")).dummy == 0


def test_what_every_version_had_has_to_be_there(folder):
    values = config.load_json(folder / "pretrained" / "config.json")
    with values.unlocked():
        del values.model["remat"]
    with pytest.raises(UserError, match=r"^w/config\.json: no model\.remat in it; expected a complete config"):
        configs.complete(values, "w/config.json")


@pytest.mark.parametrize(
    ("group", "name", "near"),
    [
        ("", "stepz", "steps"),
        ("optim.", "learning_rate", r"optim\.lr"),
        ("sources.harbor.", "val_image", r"sources\.harbor\.val_images"),
    ],
)
def test_a_key_of_a_newer_version_is_named(folder, group, name, near):
    values = config.to_dict(config.load_json(folder / "pretrained" / "config.json"))
    node = {"": values, "optim.": values["optim"], "sources.harbor.": values["sources"][0]}[group]
    node[name] = 1
    message = f"^w/config.json: {group}{name} is no key of this version of mdp_jax: of a newer version, or misspelt; "
    with pytest.raises(UserError, match=f"{message}the nearest is {near}$"):
        configs.complete(config.from_dict(values), "w/config.json")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch", "8", "batch='8': expected a whole number"),
        ("batch", True, "batch=True: expected a whole number"),
        ("batch", 10**400, "expected a whole number of at most 18 digits"),
        ("epochs", 10**400, "expected a number"),
        ("epochs", float("nan"), "epochs=nan: expected a finite number"),
        ("data_dir", None, "data_dir=None: expected text"),
        ("data_dir", "a\0b", "expected text without the character NUL"),
        ("model", 3, "model=3: expected a group of values"),
        ("sources", 3, "sources=3: expected a tuple"),
        ("sources", [3], r"sources\.0=3: expected a group of values"),
        ("sources", [{"name": "a"}], r"sources\.a\.kind=None: expected one of folder"),
        ("sources", {"name": "a", "kind": "folder"}, "sources: one dataset where a tuple of datasets is expected"),
        (
            "stages",
            [["a"], "b"],
            r"stages\[1\]='b': expected a tuple of text; write stages\[1\] = \('b',\), with a comma",
        ),
        ("mixture_weights", ["a"], r"mixture_weights\[0\]='a': expected a number"),
    ],
)
def test_values_of_wrong_types(folder, name, value, message):
    values = config.to_dict(config.load_json(folder / "pretrained" / "config.json")) | {name: value}
    with pytest.raises(UserError, match=message) as error:
        configs.complete(config.from_dict(values), "w/config.json")
    assert str(error.value).startswith("w/config.json: ")
    assert len(str(error.value)) < 300


def test_typed_and_back():
    for now in (tiny.pretrain_config(), tiny.finetune_config(), configs.pretrain(), configs.finetune()):
        typed = configs.typed(now)
        assert config.to_dict(typed) == config.to_dict(now) == config.to_dict(configs.as_config_dict(typed))
        assert config.identity(typed) == config.identity(now)
        assert configs.typed(typed) is typed
        assert typed.data.crop == now.data.crop and typed.optim.lr == now.optim.lr


def test_where_files_lie_is_no_part_of_what_a_run_is():
    now, other = tiny.finetune_config(), tiny.finetune_config()
    for one, root in ((now, "disk1/set"), (other, "/disk2/set")):
        one.dataset = configs.folder("set", root)
    config.require_same(now, other, "w")
    assert config.identity(now) == config.identity(other)
    assert config.identity(now, places=True)["dataset.root"] == "disk1/set"  # as in all scores that were kept
