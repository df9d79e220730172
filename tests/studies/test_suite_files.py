"""Files of suites: what compare_settings makes, which file is meant, and every way in which a file can be wrong."""

import dataclasses

import pytest

from mdp_jax.errors import UserError
from mdp_jax.studies import compare_settings, runs, suite_files
from mdp_jax.studies.experiments import MEASURED, Contrast, Curve, Pretraining
from mdp_jax.studies.suite_files import require_suite
from tests.studies.tiny import suite

PRETRAIN, FINETUNE = "configs/quickstart/pretrain.py", "configs/quickstart/finetune.py"


def test_settings_against_the_config_as_it_is():
    found = compare_settings(
        "mine", PRETRAIN, FINETUNE, {"cold": {"method.temperature": 0.05, "batch": 8}}, finetuning={"steps": 3}, seeds=2
    )
    require_suite(found, "--suite mine.py")
    assert [(row.name, row.config, row.overrides, row.seeds) for row in found.pretrainings] == [
        ("scratch", "", (), 2),
        ("mdp", PRETRAIN, (), 2),
        ("cold", PRETRAIN, (("method.temperature", "0.05"), ("batch", "8")), 2),
    ]
    (claim,), (ablation,) = found.claims, found.ablations
    assert (claim.left, claim.right) == ((("mdp", "finetuned"),), (("scratch", "finetuned"),))
    assert (ablation.left, ablation.right) == ((("cold", "finetuned"),), (("mdp", "finetuned"),))
    of = {run.name: run.resolved() for run in runs.of_suite(found)}
    assert of["cold/seed1/pretrain"].method.temperature == 0.05 and of["cold/seed1/pretrain"].batch == 8
    assert of["mdp/seed1/finetuned"].steps == of["scratch/seed0/finetuned"].steps == 3


def test_values_of_every_type_come_through():
    values = {"data.crop": (32, 64), "method.sparse_coding": "off", "batch": 8, "mixing.pixel": 0.0}
    (run,) = (
        run
        for run in runs.of_suite(compare_settings("mine", PRETRAIN, FINETUNE, {"one": values}, seeds=1))
        if run.name == "one/seed0/pretrain"
    )
    config = run.resolved()
    assert (tuple(config.data.crop), config.method.sparse_coding) == ((32, 64), "off")
    assert (config.batch, config.mixing.pixel) == (8, 0.0)


def write(folder, call):
    file = folder / "mine.py"
    lines = "from mdp_jax.studies import compare_settings\n\n\n"
    file.write_text(f"{lines}def get_suite():\n    return {call}\n")
    return str(file)


def test_paths_of_a_file_are_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from configs import base\n\n\ndef get_config():\n    return base.pretrain()\n")
    file = write(tmp_path, f"compare_settings('mine', 'own.py', {FINETUNE!r}, {{}})")
    found = suite_files.load(file)
    assert found.pretraining("mdp").config == str(tmp_path / "own.py")
    assert found.target("finetuned").config == FINETUNE


def test_a_shipped_suite_by_its_name_and_by_its_file(tmp_path, monkeypatch):
    """Also from a folder that has no configs; shipped configs keep their short paths where they lie at hand, too."""
    monkeypatch.chdir(tmp_path)
    known = suite_files.shipped()
    assert known
    for name, file in known.items():
        found = suite_files.load(name)
        assert found.name == name
        monkeypatch.chdir(file.parents[2])
        assert suite_files.load(f"configs/studies/{file.name}").pretrainings == found.pretrainings
        monkeypatch.chdir(tmp_path)
        assert suite_files.load(str(file)).targets == found.targets


def test_files_with_earlier_imports(tmp_path):
    """The names that a suite's file was told to import from before."""
    for module in ("mdp_jax.reproduction.own_suites", "mdp_jax.reproduction.experiments"):
        file = tmp_path / "old.py"
        call = f"compare_settings('old', {PRETRAIN!r}, {FINETUNE!r}, {{}})"
        file.write_text(f"from {module} import compare_settings\n\n\ndef get_suite():\n    return {call}\n")
        assert suite_files.load(str(file)).name == "old"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("compare_settings(", r"mine\.py, line 5: SyntaxError"),
        ("None", r"get_suite\(\) returned None; expected a Suite, as compare_settings makes"),
        (f"compare_settings('mine', {PRETRAIN!r})", r"line 5: TypeError: .*missing 2 required"),
        (f"compare_settings('a/b', {PRETRAIN!r}, {FINETUNE!r}, {{}})", r"the suite is called 'a/b'; expected letters"),
        (f"compare_settings('full', {PRETRAIN!r}, {FINETUNE!r}, {{}})", r"called full, as a shipped one is"),
        (f"compare_settings('m', 'no.py', {FINETUNE!r}, {{}})", r"mine\.py: mdp: --config no\.py: no such Python file"),
        (f"compare_settings('m', {FINETUNE!r}, {FINETUNE!r}, {{}})", r"has no sources; expected a config for mdp pret"),
        (f"compare_settings('m', {PRETRAIN!r}, {PRETRAIN!r}, {{}})", r"has no dataset; expected a config for mdp fine"),
        (f"compare_settings('m', {PRETRAIN!r}, {FINETUNE!r}, {{'mdp': {{}}}})", r"a pretraining is called mdp 2 times"),
        (f"compare_settings('m', {PRETRAIN!r}, {FINETUNE!r}, {{'logs': {{}}}})", r"the name logs is taken"),
        (f"compare_settings('m', {PRETRAIN!r}, {FINETUNE!r}, {{}}, seeds=0)", r"scratch: seeds is 0; expected"),
    ],
)
def test_mistakes_in_a_file_are_one_line(tmp_path, call, message):
    with pytest.raises(UserError, match=message) as error:
        suite_files.load(write(tmp_path, call))
    assert str(error.value).startswith(f"--suite {tmp_path}/mine.py") and "\n" not in str(error.value)


def replaced(index, **values):
    """The tiny suite with one pretraining changed."""
    whole = suite()
    rows = list(whole.pretrainings)
    rows[index] = dataclasses.replace(rows[index], **values)
    return dataclasses.replace(whole, pretrainings=tuple(rows))


def with_rates(rates):
    few, many = suite().targets
    return dataclasses.replace(suite(), targets=(dataclasses.replace(few, rates=rates), many))


def with_target(**values):
    few, many = suite().targets
    return dataclasses.replace(suite(), targets=(dataclasses.replace(few, **values), many))


def with_claims(*claims):
    return dataclasses.replace(suite(), claims=claims)


CELLS = (("mdp", "few"),)


def with_curve(*points, along="steps"):
    """The suite with one curve."""
    return dataclasses.replace(suite(), curves=(Curve("all", "MDP", points),), along=along)


def contrast(**values):
    return dataclasses.replace(suite().claims[0], **values)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replaced(1, overrides={"steps": "3"}), r"w: mdp: override \{'steps': '3'\}; expected pairs of texts"),
        (replaced(1, overrides=(("steps", 3),)), r"w: mdp: override \('steps', 3\); expected pairs"),
        (replaced(1, targets=("few", "most")), r"w: mdp: no target most; expected few, many"),
        (
            replaced(1, overrides=(("init", "w.pth"),)),
            r"w: mdp: override of init, which the suite sets; expected Pretr",
        ),
        (
            replaced(0, init="mdp"),
            r"w: scratch: init or overrides without a config; expected a config for mdp pretrain",
        ),
        (with_target(photos=(5, 5)), r"w: few: photos is \(5, 5\); expected whole numbers from 0, each once"),
        (with_target(photos=(5,), draws=0), r"w: few: draws is \(0,\); expected whole numbers from 1, each once"),
        (
            with_target(seeds=(1,)),
            r"w: over_scratch: its cells have no seed in common; expected one in the",
        ),
        (with_target(layers=("head",)), r"w: few: layers has head: expected some of backbone, decoder, projection"),
        (with_rates({"mdp": 0.1}), r"w: few: rates is \{'mdp': 0.1\}; expected texts"),
        (with_claims(contrast(key=1)), r"w: a contrast is called 1; expected letters"),
        (replaced(1, targets="few"), r"w: mdp: targets is 'few'; expected a tuple of names"),
        (with_rates({"mpd": "0.1"}), r"w: few: rate of 'mpd'; expected of one of scratch, mdp, longer"),
        (replaced(1, name="Scratch"), r"w: a pretraining is called scratch 2 times"),
        (replaced(2, seeds=2), r"w: longer: 2 seeds, and 1 of mdp; expected as many of both"),
        (replaced(1, init="longer"), r"w: mdp: starts from longer; expected a pretraining that comes before it"),
        (replaced(1, init="scratch"), r"w: mdp: starts from scratch; expected a pretraining that comes before it"),
        (dataclasses.replace(suite(), pretrainings=[]), r"w: pretrainings is \[\]; expected a tuple of Pretraining"),
        (dataclasses.replace(suite(), targets=({},)), r"w: targets is \(\{\},\); expected a tuple of Target"),
        (dataclasses.replace(suite(), claims=(), ablations=()), r"w: no contrasts; expected claims or ablations"),
        (with_claims(contrast(kind=MEASURED)), r"w: over_scratch: kind 'measured'; expected greater or equivalent"),
        (with_claims(contrast(left=())), r"w: over_scratch: a side is \(\); expected one or two pairs"),
        (with_claims(contrast(left=(("longer", "many"),))), r"\('longer', 'many'\); expected a pretraining and one of"),
        (
            with_claims(contrast(left=(["mdp", "few"],))),
            r"w: over_scratch: \['mdp', 'few'\]; expected a pretraining and one",
        ),
        (with_claims(contrast(sentence=("a",))), r"w: over_scratch: sentence is \('a',\); expected a text$"),
        (replaced(1, what=None), r"w: mdp: what is None; expected a text$"),
        (replaced(1, init=["w.pth"]), r"w: mdp: init is \['w.pth'\]; expected a text$"),
        (with_target(config=1), r"w: few: config is 1; expected a text$"),
        (dataclasses.replace(suite(), what=b"x"), r"w: what is b'x'; expected a text$"),
        (with_claims(contrast(), contrast()), r"w: a contrast is called over_scratch 2 times"),
        (
            with_curve((1, CELLS), along=""),
            r"w: curve MDP: the suite has no `along`; expected a few",
        ),
        (
            with_curve((2, CELLS), (1, CELLS)),
            r"w: curve MDP: points at \[2, 1\]; expected numbers above",
        ),
        (with_curve((0, CELLS)), r"w: curve MDP: points at \[0\]; expected numbers above 0"),
        (with_curve(("1", CELLS)), r"w: curve MDP: points at \['1'\]; expected numbers above 0"),
        (with_curve(), r"w: curve MDP: points at \[\]; expected numbers above 0"),
        (with_curve((1, ())), r"w: curve MDP: a point is \(1, \(\)\); expected pairs of a number and a tuple of cells"),
        (
            with_curve((1, (("mdp", "no"),))),
            r"w: curve MDP: \('mdp', 'no'\); expected a pretraining",
        ),
    ],
)
def test_parts_that_do_not_fit_together(wrong, message):
    with pytest.raises(UserError, match=message) as error:
        require_suite(wrong, "w")
    assert "\n" not in str(error.value)


def test_a_config_that_starts_from_weights_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "from configs import base\n\n\ndef get_config():\n    config = base.pretrain()\n    config.init = 'w.pth'\n"
    (tmp_path / "own.py").write_text(lines + "    return config\n")
    with pytest.raises(UserError, match=r"mdp: own\.py has init='w\.pth', which the suite sets; expected Pretraining"):
        suite_files.load(write(tmp_path, f"compare_settings('mine', 'own.py', {FINETUNE!r}, {{}})"))


def test_values_of_all_pretrainings_and_a_setting_before_them():
    always = {"steps": 5, "batch": 4}
    found = compare_settings("mine", PRETRAIN, FINETUNE, {"cold": {"batch": 8}}, pretraining=always, seeds=1)
    of = {run.name: run.resolved() for run in runs.of_suite(found) if run.part == "pretrain"}
    assert [(config.steps, config.batch) for config in of.values()] == [(5, 4), (5, 8)]


def test_the_tiny_suite_fits_together():
    require_suite(suite(), "w")


def test_weights_to_start_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = Pretraining("p", "", PRETRAIN, init="w.pth", seeds=1, targets=("few",))
    over = Contrast("p", "p is better", (("p", "few"),), (("scratch", "few"),))
    whole = dataclasses.replace(suite(), pretrainings=(suite().pretrainings[0], row), claims=(over,), ablations=())
    require_suite(whole, "w")
    with pytest.raises(UserError, match=r"w: p: starts from w\.pth; expected a pretraining of the suite, a workdir"):
        suite_files._with_files(whole, tmp_path, "w")
    (tmp_path / "w.pth").write_text("")
    assert suite_files._with_files(whole, tmp_path, "w").pretraining("p").init == str(tmp_path / "w.pth")


def test_a_file_of_names_beside_the_suite(tmp_path, monkeypatch):
    """Runs are started in another folder; a shipped file is found from there, and stays in the page as it was given."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    body = f"compare_settings('mine', {PRETRAIN!r}, {FINETUNE!r}, {{'named': {{'method.names_file': '%s'}}}})"
    with pytest.raises(UserError, match=r"named: method\.names_file=own\.npz: no such file; expected one beside"):
        suite_files.load(write(tmp_path, body % "own.npz"))
    found = {}
    for path in ("own.npz", "here.npz", "configs/studies/names.npz"):
        (tmp_path / "own.npz").touch()
        (tmp_path / "elsewhere" / "here.npz").touch()
        found[path] = dict(suite_files.load(write(tmp_path, body % path)).pretraining("named").overrides)
    assert {path: values["method.names_file"] for path, values in found.items()} == {
        "own.npz": str(tmp_path / "own.npz"),
        "here.npz": str(tmp_path / "elsewhere" / "here.npz"),
        "configs/studies/names.npz": "configs/studies/names.npz",
    }
