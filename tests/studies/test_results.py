"""Outcomes from scores, worked out by hand."""

import json

import pytest

from mdp_jax.studies import pages, results, runs
from tests.studies.tiny import suite

SCORES = {
    (("scratch", "few"), 0): 10.0,
    (("scratch", "few"), 1): 11.0,
    (("scratch", "many"), 0): 20.0,
    (("scratch", "many"), 1): 21.0,
    (("mdp", "few"), 0): 14.0,
    (("mdp", "few"), 1): 15.0,
    (("mdp", "many"), 0): 21.0,
    (("mdp", "many"), 1): 23.0,
    (("longer", "few"), 0): 14.5,
}


def outcome(key, scores=SCORES, seeds=2, most=None):
    of = suite(seeds)
    (contrast,) = [contrast for contrast in of.contrasts if contrast.key == key]
    return results.judge(of, contrast, scores, most)


def test_pairs_by_seed():
    found = outcome("over_scratch")
    assert (found.seeds, found.left, found.right) == ((0, 1), (14.0, 15.0), (10.0, 11.0))
    assert found.found == (4.0, 4.0, 4.0) and found.verdict == "holds" and not found.missing


def test_difference_of_differences():
    # 14 - 10 = 4 and 15 - 11 = 4, against 21 - 20 = 1 and 23 - 21 = 2.
    found = outcome("gain")
    assert (found.left, found.right, found.differences) == ((4.0, 4.0), (1.0, 2.0), (3.0, 2.0))
    assert found.found.mean == 2.5 and found.found.low == pytest.approx(2.5 - 12.706 * 0.5, abs=1e-3)
    assert found.verdict == "undecided"


def test_missing_runs_leave_a_claim_undecided():
    less = {key: value for key, value in SCORES.items() if key != (("mdp", "few"), 1)}
    found = outcome("over_scratch", less | {(("mdp", "few"), 2): 15.0, (("scratch", "few"), 2): 9.0}, seeds=3)
    assert found.seeds == (0, 2) and found.differences == (4.0, 6.0)
    assert found.missing == ((("mdp", "few"), 1),) and found.verdict == "undecided"
    assert outcome("again").missing == ((("longer", "few"), 1),)
    nothing = outcome("gain", {})
    assert nothing.found == (None, None, None) and len(nothing.missing) == 8


def test_fewer_seeds_when_asked():
    found = outcome("over_scratch", most=1)
    assert found.seeds == (0,) and not found.missing and found.found == (4.0, None, None)
    assert found.verdict == "undecided"


def test_ablations_have_no_verdict():
    found = outcome("budget")
    assert found.verdict is None and found.found.mean == -7.5
    assert results.json_row(found)["verdict"] is None


def test_json_row():
    assert json.loads(json.dumps(results.json_row(outcome("again")))) == {
        "claim": "again",
        "difference": 0.5,
        "low": None,
        "high": None,
        "seeds": 1,
        "verdict": "undecided",
        "kind": "equivalent",
        "sentence": "again is the same",
        "left": {"0": 14.5},
        "right": {"0": 14.0},
        "missing": ["longer/few seed 1"],
    }


def test_tables():
    table = pages.outcome_table(outcome("gain"))
    assert table.columns[1:] == ["mdp / few − scratch / few", "mdp / many − scratch / many", "difference"]
    assert table.rows == [["0", 4.0, 1.0, 3.0], ["1", 4.0, 2.0, 2.0], ["mean", 4.0, 1.5, 2.5]]
    assert pages.outcome_table(outcome("gain", {})).rows == []
    rows = pages.outcomes_table([outcome("over_scratch"), outcome("again"), outcome("budget")]).rows
    assert rows[0] == ["over_scratch", 4.0, 4.0, 4.0, 2, "holds", None]
    assert rows[1] == ["again", 0.5, None, None, 1, "undecided", 1]
    assert rows[2][5:] == [None, None]


def test_collect_reads_every_run(tmp_path):
    of = suite(1)
    every = runs.of_suite(of)
    finetunings = [run for run in every if run.cell]
    for number, run in enumerate(finetunings[:-1]):
        (tmp_path / run.name).mkdir(parents=True)
        scores = {"datasets": {"valley": {"mIoU": float(number)}}}
        (tmp_path / run.name / "evaluation.json").write_text(json.dumps(scores))
        (tmp_path / run.name / "metrics.jsonl").write_text(json.dumps({"step": run.resolved().steps}))
    found = results.collect(of, every, tmp_path)
    assert found.scores == {(run.cell, 0): float(number) for number, run in enumerate(finetunings[:-1])}
    assert found.missing == ("longer/seed0/few",)
    assert [outcome.contrast for outcome in found.claims + found.ablations] == list(of.contrasts)
    rows = {(row[0], row[1]): row[2:] for row in pages.scores_table(found).rows}
    assert rows["few", "mdp"] == [2.0, None, 1, "2.00"]
    # By target; what has no run yet has no row.
    assert list(rows) == [("few", "scratch"), ("few", "mdp"), ("many", "scratch"), ("many", "mdp")]


def test_mean_and_deviation_of_a_cell():
    of = suite(2)
    found = results.Results(of, (), SCORES, (), None)
    rows = {(row[0], row[1]): row[2:] for row in pages.scores_table(found).rows}
    assert rows["few", "scratch"] == [10.5, pytest.approx(0.5**0.5), 2, "10.00, 11.00"]
