"""Configs: overrides by dotted key, errors that name the nearest key, JSON and back, comparison on resume."""

import json

import pytest

from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.errors import UserError


@pytest.fixture
def config():
    config = base.pretrain()
    config.sources = (base.folder("town", "a"), base.folder("harbor", "b"))
    config.lock()
    return config


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("optim.lr", "1", 1.0),
        ("optim.lr", "1e-3", 1e-3),
        ("batch", "32", 32),
        ("data.crop", "64,32", (64, 32)),
        ("data.crop", "(64, 32)", (64, 32)),
        ("data.ratio", "(1,2)", (1.0, 2.0)),
        ("data.cache", "true", True),
        ("data_dir", "0", "0"),
        ("method.sparse_coding", "off", "off"),
    ],
)
def test_override(config, key, text, expected):
    configs.apply_overrides(config, [(key, text)])
    node = config
    for part in key.split("."):
        node = node[part]
    assert node == expected
    assert type(node) is type(expected)


def test_sources_go_by_name(config):
    configs.apply_overrides(config, [("sources.harbor.limit", "7"), ("sources.town.drop_classes", "('sky',)")])
    assert [source.limit for source in config.sources] == [0, 7]
    assert config.sources[0].drop_classes == ("sky",)


def test_names_of_sets_may_have_dots():
    config = base.pretrain()
    config.sources = tuple(base.folder(name, "root") for name in ("v1", "v1.2", "v1.2.train", "limit"))
    given = [("sources.v1.limit", "1"), ("sources.v1.2.limit", "2"), ("sources.v1.2.train.limit", "3")]
    configs.apply_overrides(config.lock(), [*given, ("sources.limit.limit", "4")])
    assert [source.limit for source in config.sources] == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"sources\.v1\.2\.limits: no such key; the nearest is sources\.v1\.2\.limit$"):
        configs.apply_overrides(config, [("sources.v1.2.limits", "1")])


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("optim.lrr", "1", r"--config\.optim\.lrr: no such key; the nearest is optim\.lr$"),
        ("optim.learning_rate", "1", r"--config\.optim\.learning_rate: no such key; the nearest is optim\.lr$"),
        ("learning_rate", "1", r"no such key; the nearest is optim\.lr$"),
        ("batch_size", "1", r"no such key; the nearest is batch$"),
        ("data.crop_size", "1", r"no such key; the nearest is data\.crop$"),
        ("decoder.channels", "1", r"no such key; the nearest is model\.decoder\.channels$"),
        ("tempertaure", "1", r"--config\.tempertaure: no such key; the nearest is .*temperature"),
        ("sources.harbour.limit", "1", r"no such key; the nearest is sources\.harbor\.limit"),
        ("batch", "3.5", r"--config\.batch=3\.5: expected int, like 256"),
        ("batch", "many", r"--config\.batch=many: expected int"),
        ("optim.lr", "nan", r"--config\.optim\.lr=nan: expected float"),
        ("data.cache", "1", r"--config\.data\.cache=1: expected bool"),
        ("batch", "{[]:1}", r"--config\.batch=\{\[\]:1\}: expected int"),
        ("batch", "1" * 401, r"--config\.batch=1{70,80}\.*: expected a whole number of at most 18 digits"),
        ("batch", "1" * 9001, r"--config\.batch=1{70,80}\.*: expected int"),
        ("optim.lr", "1" * 401, r"--config\.optim\.lr=1{70,80}\.*: expected a finite number"),
        ("data.scale", f"0.1,{'1' * 401}", r"--config\.data\.scale=.*: expected a finite number"),
        ("batch", "(" * 1000, r"--config\.batch=\({70,80}\.*: expected int"),
        ("batch", "3\n4", r"--config\.batch=3\\n4: expected int"),
        ("data.crop", "1.5,2", r"--config\.data\.crop=1\.5,2: expected tuple of int"),
        ("optim", "1", r"--config\.optim=1: a group of values; expected one of its keys: .*optim\.lr"),
        (
            "sources",
            "x",
            r"--config\.sources=x: a list of datasets; expected a key of one of them, inside sources\.town",
        ),
    ],
)
def test_wrong_override_is_one_line(config, key, text, message):
    with pytest.raises(UserError, match=message) as error:
        configs.apply_overrides(config, [(key, text)])
    assert "\n" not in str(error.value)


def test_json_and_back(config):
    text = json.dumps(configs.to_dict(config))
    again = configs.from_dict(json.loads(text))
    assert json.dumps(configs.to_dict(again)) == text
    configs.require_same(config, again, "w")
    configs.apply_overrides(again, [("data.crop", "32,32"), ("sources.town.limit", "3")])


def test_another_config_names_the_value(config):
    other = configs.from_dict(configs.to_dict(config))
    configs.apply_overrides(other, [("sources.harbor.limit", "5")])
    with pytest.raises(UserError, match=r"w: started with config\.sources\.harbor\.limit=0, now 5"):
        configs.require_same(config, other, "w")


def test_another_config_in_words(config):
    def other(**values):
        changed = configs.from_dict(configs.to_dict(config))
        for key, value in values.items():
            setattr(changed, key, value)
        return changed

    more = other(sources=(*config.sources, base.folder("meadow", "c")))
    with pytest.raises(UserError, match=r"^w: started with the sets town, harbor; now town, harbor, meadow; use"):
        configs.require_same(config, more, "w")
    with pytest.raises(UserError, match=r"^w: started with the sets town, harbor, meadow; now town, harbor; use"):
        configs.require_same(more, config, "w")
    with pytest.raises(UserError, match=r"^w: started as a run of 7 steps, now of 9 \(config\.steps\); use"):
        configs.require_same(other(steps=7), other(steps=9), "w")
    less = other(sources=(base.folder("town", "a", drop_classes=("sky", "sea")), config.sources[1]))
    message = r"^w: started with config\.sources\.town\.drop_classes leaving out the classes none; now sky, sea; use"
    with pytest.raises(UserError, match=message):
        configs.require_same(config, less, "w")
    tuned = base.finetune()
    tuned.dataset = base.folder("town", "a")
    with pytest.raises(
        UserError, match=r"^w: the workdir of mdp pretrain; expected one of mdp finetune, or a new --workdir"
    ):
        configs.require_same(config, tuned, "w")


def test_weights_to_start_from_may_be_named_in_several_ways(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ways = [configs.from_dict(configs.to_dict(config)) for _ in range(3)]
    for one, init in zip(ways, ("runs/p", str(tmp_path / "runs" / "p"), "runs/q"), strict=True):
        configs.apply_overrides(one, [("init", init)])
    configs.require_same(ways[0], ways[1], "w")
    with pytest.raises(UserError, match=r"w: started with config\.init='runs/p', now 'runs/q'"):
        configs.require_same(ways[0], ways[2], "w")
    with pytest.raises(UserError, match=r"w: started with config\.init='scratch', now 'runs/p'"):
        configs.require_same(config, ways[0], "w")


def test_where_a_run_goes_on_may_differ(config):
    other = configs.from_dict(configs.to_dict(config))
    configs.apply_overrides(other, [("data_dir", "elsewhere"), ("log_every", "1"), ("devices", "1")])
    assert configs.to_dict(other) != configs.to_dict(config)
    configs.require_same(config, other, "w")


def test_shipped_configs_load():
    for path in ("mini/pretrain.py", "mini/camvid11.py", "mini/camvid11_40.py", "mini/msrc_v2.py"):
        assert configs.load(f"configs/{path}").is_locked
    assert configs.load("configs/mini/camvid11_40.py").dataset.limit == 40


def test_missing_config_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"no such Python file; the nearest is configs/mini/pretrain\.py"):
        configs.load("configs/mini/pretrian.py")
    with pytest.raises(UserError, match=r"no such Python file; the nearest is configs/(?!.*__init__)"):
        configs.load("configs/init.py")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json: expected a Python file with get_config\(\), as configs/"):
        configs.load(str(tmp_path / "config.json"))
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(UserError, match=r"expected a function get_config"):
        configs.load(str(empty))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("def get_config(:", r"mine\.py, line 2: SyntaxError: invalid syntax"),
        ("import nothere", r"mine\.py, line 2: ModuleNotFoundError: No module named 'nothere"),
        (
            "def get_config():\n    pass",
            r"mine\.py: get_config\(\) returned None; expected what mdp_jax\.configs makes",
        ),
        ("c = base.pretrain()\nc.setps = 1", r"mine\.py, line 3: no such key: setps"),
        ("c = base.pretrain()\nc.optim.lrr = 1.0", r"mine\.py, line 3: no such key: lrr; the nearest is lr"),
        (
            "c = base.finetune()\nc.dataset = base.folder('a', 'a')\nc.dataset.limt = 1",
            r"line 4: no such key: limt; the nearest is limit",
        ),
        ("c = base.tfds('a')\nc.mask_kye = 'x'", r"line 3: no such key: mask_kye; the nearest is mask_key"),
        ("c = base.pretrain()\nc.batch = '32'", r"mine\.py, line 3: TypeError: batch = '32'; expected int$"),
        (
            "c = base.pretrain()\nc.sources = (base.folder('a', 'a'))",
            r"line 3: TypeError: sources is one dataset; .*write a comma behind it, as in sources = \(dataset,\)$",
        ),
        ("c = base.pretrain()\nc.sources = (base.voc() base.voc())", r"line 3: SyntaxError: .*forgot a comma"),
        ("c = base.pretrain()\nc.sources = (base.voc()\n(base.voc()))", r"line 3: TypeError: .*is a comma missing"),
        (
            "c = base.finetune()\nc.transfer = ('backbone')",
            r"line 3: TypeError: transfer = 'backbone'; expected a tuple: write transfer = \('backbone',\), with",
        ),
        ("c = base.finetune()\nc.model = 3", r"line 3: TypeError: model = 3; expected a group of values$"),
        ("base.folder('a', None)", r"mine\.py, line 2: dataset 'a': root=None: expected text$"),
        ("base.folder(None, 'a')", r"mine\.py, line 2: dataset None: name=None: expected text$"),
        ("base.voc(limit='3')", r"line 2: dataset 'voc': limit='3': expected a whole number$"),
        (
            "base.voc(drop_classes='sky')",
            r"line 2: dataset 'voc': drop_classes='sky': expected a tuple of text; write drop_classes = \('sky',\)",
        ),
        (
            "def get_config():\n    c = base.finetune()\n    c.data_dir = None\n    return c",
            r": data_dir=None: expected text$",
        ),
        (
            "def get_config():\n    c = base.finetune()\n    c.batch = True\n    return c",
            r": batch=True: expected a whole",
        ),
        ("raise ValueError('a\\nb')", r"line 2: ValueError: a$"),
        ("import sys\nsys.exit(0)", r"mine\.py, line 3: sys\.exit\(0\) was called; expected the file to return$"),
        ("import sys\ndef get_config():\n    sys.exit('a\\nb')", r"line 4: sys\.exit\(a\\nb\) was called"),
    ],
)
def test_mistakes_in_a_config_file_are_one_line(tmp_path, lines, message):
    file = tmp_path / "mine.py"
    file.write_text(f"from configs import base\n{lines}\n")
    with pytest.raises(UserError, match=message) as error:
        configs.load(str(file))
    assert "\n" not in str(error.value)


def test_a_config_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from configs import base\n\n\ndef get_config():\n    return base.finetune()\n")
    assert configs.load(str(file)).optim.lr == 0.01


def test_broken_json(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        configs.load_json(tmp_path / "config.json")
    with pytest.raises(UserError, match="missing; expected the workdir"):
        configs.load_json(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"config\.json: a file; expected the workdir"):
        configs.load_json(tmp_path / "config.json" / "config.json")
