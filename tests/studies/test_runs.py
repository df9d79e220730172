"""The runs of a suite: their commands, their order, and what counts as finished."""

import copy
import dataclasses
import json

import pytest

from mdp_jax import config as configs
from mdp_jax.errors import UserError
from mdp_jax.studies import origins, runs, score_files
from mdp_jax.studies.experiments import Pretraining, Suite
from tests.studies.tiny import suite


def names(found):
    return [run.name for run in found]


def test_order_is_seed_by_seed():
    one = ["scratch/seed0/few", "scratch/seed0/many", "mdp/seed0/pretrain", "mdp/seed0/few", "mdp/seed0/many"]
    one += ["longer/seed0/pretrain", "longer/seed0/few"]
    assert names(runs.of_suite(suite(2))) == one + [name.replace("seed0", "seed1") for name in one]
    assert names(runs.of_suite(suite(2), most=1)) == one
    assert names(runs.of_suite(suite(1), most=9)) == one


def test_only_takes_the_first_stage_along():
    found = names(runs.of_suite(suite(), only=["longer"]))
    assert found == ["mdp/seed0/pretrain", "longer/seed0/pretrain", "longer/seed0/few"]
    with pytest.raises(UserError, match="--only nothing: not in tiny; expected one of scratch, mdp, longer"):
        runs.of_suite(suite(), only=["nothing"])


def test_only_one_of_the_seeds_that_are_asked_for():
    assert names(runs.of_suite(suite(3), most=2, only=["scratch/seed1"])) == ["scratch/seed1/few", "scratch/seed1/many"]
    message = "--only mdp/seed2: expected mdp, or one of mdp/seed0 to mdp/seed1 with --seeds 2"
    with pytest.raises(UserError, match=message):
        runs.of_suite(suite(3), most=2, only=["mdp/seed2"])


def of_seed_0_and_all():
    """The tiny suite, 2 seeds: the targets are of seed 0 alone, but for a third one, which `longer` has."""
    whole = suite(2)
    alone = tuple(dataclasses.replace(target, seeds=(0,)) for target in whole.targets)
    targets = (*alone, dataclasses.replace(whole.targets[0], name="all"))
    scratch, first, after = whole.pretrainings
    rows = (scratch, first, dataclasses.replace(after, targets=("all",)))
    return dataclasses.replace(whole, pretrainings=rows, targets=targets, claims=(), ablations=())


def test_a_first_stage_is_run_for_the_seeds_of_the_later_ones():
    """`mdp` has targets of seed 0 alone, and `longer` starts from it for both seeds."""
    found = runs.of_suite(of_seed_0_and_all())
    assert names(found) == [
        *("scratch/seed0/few", "scratch/seed0/many", "mdp/seed0/pretrain", "mdp/seed0/few", "mdp/seed0/many"),
        *("longer/seed0/pretrain", "longer/seed0/all"),
        *("mdp/seed1/pretrain", "longer/seed1/pretrain", "longer/seed1/all"),
    ]
    assert set(score_files.settings_of(found)) == set(names(found))


@pytest.mark.parametrize("only", [["mdp/seed1"], ["longer/seed1"]])
def test_no_stage_is_run_for_a_seed_that_nothing_is_scored_of(only):
    whole = of_seed_0_and_all()
    targets = tuple(dataclasses.replace(target, seeds=(0,)) for target in whole.targets)
    assert not runs.of_suite(dataclasses.replace(whole, targets=targets), only=only)


def test_commands_and_configs():
    found = {run.name: run for run in runs.of_suite(suite(2), data_dir="/photos")}
    few = found["mdp/seed1/few"]
    assert few.words[:5] == ["finetune", "--config", "configs/quickstart/finetune.py", "--workdir", "mdp/seed1/few"]
    assert "--config.init=mdp/seed1/pretrain" in few.words and few.needs == "mdp/seed1/pretrain"
    config = few.resolved()
    assert (config.seed, config.init, config.data_dir, config.steps) == (1, "mdp/seed1/pretrain", "/photos", 3)
    assert (config.optim.lr, found["scratch/seed1/few"].resolved().optim.lr) == (0.2, 0.3)
    assert found["scratch/seed1/few"].resolved().init == "scratch" and not found["scratch/seed1/few"].needs
    assert found["longer/seed1/pretrain"].needs == "mdp/seed1/pretrain"
    assert found["longer/seed1/few"].needs == "longer/seed1/pretrain"
    assert found["mdp/seed0/pretrain"].resolved().keep_checkpoints == 1


def test_first_stage_may_be_a_file():
    row = Pretraining("first", "from a file", "configs/quickstart/pretrain.py", init="weights.pth", seeds=1)
    (run,) = runs.of_suite(Suite("s", "", (row,), (), ()))
    assert run.resolved().init == "weights.pth" and not run.needs


def test_states(tmp_path):
    found = {run.name: run for run in runs.of_suite(suite())}
    pretrain, few = found["mdp/seed0/pretrain"], found["mdp/seed0/few"]
    assert runs.state(pretrain, tmp_path) == runs.state(few, tmp_path) == "missing"
    for run in (pretrain, few):
        (tmp_path / run.name).mkdir(parents=True)
        (tmp_path / run.name / "config.json").write_text("{}")
        assert runs.state(run, tmp_path) == "begun"
    rows = [{"step": 2}, {"step": 3}]
    metrics = tmp_path / pretrain.name / "metrics.jsonl"
    metrics.write_text(json.dumps(rows[0]) + "\n")
    (tmp_path / pretrain.name / "checkpoints" / "2").mkdir(parents=True)
    assert runs.state(pretrain, tmp_path) == "begun"
    metrics.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert runs.state(pretrain, tmp_path) == "begun"  # its last checkpoint is missing
    (tmp_path / pretrain.name / "checkpoints" / "3").mkdir()
    assert runs.state(pretrain, tmp_path) == "finished"
    scored, steps = tmp_path / few.name / "evaluation.json", few.resolved().steps
    scored.write_text('{"datasets": {"valley": {"mIoU": 12.5}}}')
    (tmp_path / few.name / "metrics.jsonl").write_text(json.dumps({"step": steps - 1}))
    assert runs.state(few, tmp_path) == "begun" and runs.score(few, tmp_path) is None  # scored before its end, by hand
    (tmp_path / few.name / "metrics.jsonl").write_text(json.dumps({"step": steps}))
    assert runs.state(few, tmp_path) == "finished" and runs.score(few, tmp_path) == 12.5
    scored.write_text(
        '{"datasets": {"valley": {"mIoU": 12.5}}, "photos": {"valley": {"count": 2}}, "step": 3}'
    )  # as a run writes it
    assert runs.score(few, tmp_path) == 12.5
    scored.write_text('{"datasets": {"valley": {"mIoU": 12.5}}, "step": 3, "weights": "ema"}')  # with optim.ema_decay
    assert runs.score(few, tmp_path) == 12.5
    scored.write_text('{"datasets": {"valley": {"mIoU": 12.5}}, "step": 2}')  # of the way, by hand
    assert runs.score(few, tmp_path) is None and runs.state(few, tmp_path) == "begun"
    changed = ('"views": {"flip": true}', '"config": {"data.short_side": "48"}')
    others = (f'{{"datasets": {{"valley": {{"mIoU": 12.5}}}}, {more}}}' for more in changed)
    for wrong in ('{"datasets": {}}', *others):
        scored.write_text(wrong)
        with pytest.raises(UserError, match=r"evaluation.json: not the scores of one dataset, seen whole"):
            runs.state(few, tmp_path)


def test_runs_of_other_settings_are_refused(tmp_path):
    found = runs.of_suite(suite())
    few = found[0]
    (tmp_path / few.name).mkdir(parents=True)
    config = copy.deepcopy(few.resolved())
    file = tmp_path / few.name / "config.json"
    file.write_text(json.dumps(configs.to_dict(config)))
    runs.require_same(found, tmp_path)
    file.write_text(json.dumps(configs.to_dict(configs.apply_overrides(config, [("optim.lr", "0.7")]))))
    with pytest.raises(UserError, match=r"scratch/seed0/few: started with config.optim.lr=0.7, now 0.3"):
        runs.require_same(found, tmp_path)


def test_unknown_values_are_refused(tmp_path):
    row = Pretraining("p", "", "configs/quickstart/pretrain.py", (("method.temprature", "1"),), seeds=1)
    with pytest.raises(UserError, match=r"--config.method.temprature: no such key"):
        runs.require_same(runs.of_suite(Suite("s", "", (row,), (), ())), tmp_path)


def test_a_chain_of_first_stages_comes_along():
    first, *_ = (row for row in suite().pretrainings if row.name == "mdp")
    chain = tuple(
        dataclasses.replace(first, name=name, init=init) for name, init in (("a", ""), ("b", "a"), ("c", "b"))
    )
    found = names(runs.of_suite(dataclasses.replace(suite(), pretrainings=chain, claims=()), only=["c"]))
    assert found[:3] == ["a/seed0/pretrain", "b/seed0/pretrain", "c/seed0/pretrain"]


def test_a_run_of_epochs_is_finished_with_its_report(tmp_path):
    row = Pretraining("p", "", "configs/quickstart/pretrain.py", (("steps", "0"), ("epochs", "2")), seeds=1)
    (run,) = runs.of_suite(Suite("s", "", (row,), (), ()))
    folder = tmp_path / run.name
    (folder / "checkpoints" / "7").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 7}\n')
    assert not runs.finished(run, tmp_path)
    (folder / "report.html").write_text("")
    assert runs.finished(run, tmp_path)


def test_only_takes_one_seed_and_the_first_stage_of_it():
    assert names(runs.of_suite(suite(), only=["longer/seed0"])) == [
        name for name in names(runs.of_suite(suite(), only=["longer"])) if "/seed0/" in name
    ]
    with pytest.raises(UserError, match=r"--only mdp/seed9: expected mdp, or one of mdp/seed0 to mdp/seed\d"):
        runs.of_suite(suite(), only=["mdp/seed9"])


def test_runs_that_began_with_another_file(tmp_path):
    """Of names or of weights: the config has the path alone. What starts from such a run began with it too."""
    names, weights = tmp_path / "names.npz", tmp_path / "w.pth"
    scratch, first, after = suite().pretrainings
    first = dataclasses.replace(first, overrides=(*first.overrides, ("method.names_file", str(names))))
    of = dataclasses.replace(suite(), pretrainings=(scratch, first, after), claims=(), ablations=())
    other = dataclasses.replace(of, pretrainings=(dataclasses.replace(first, init=str(weights)),))
    for written, found in ((names, runs.of_suite(of)), (weights, runs.of_suite(other))):
        folder = tmp_path / f"study of {written.name}"
        written.write_bytes(b"then")
        for run in found:
            (folder / run.name).mkdir(parents=True)
        origins.note(found, folder)
        origins.require_same(found, folder)
        written.write_bytes(b"now")
        origins._content.cache_clear()
        begun = [run.name for run in found if not run.name.startswith("scratch")]
        with pytest.raises(UserError, match=f"{len(begun)} runs began with .*: remove {', '.join(begun)} there"):
            origins.require_same(found, folder)
        for name in begun:
            (folder / name).rmdir()
        origins.require_same(found, folder)
