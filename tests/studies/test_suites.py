"""The shipped suites and what the docs say of them: names fit together, configs work, pages are up to date."""

import json
import pathlib
import re
from collections import Counter

import jax
import pytest

from configs.studies import full
from mdp_jax import checks
from mdp_jax import config as configs
from mdp_jax.planning import programs
from mdp_jax.studies import EQUIVALENT, GREATER, MEASURED, pages, results, runs, score_files, suite_files

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
EVERY = {name: suite_files.load(name) for name in suite_files.shipped()}
HERE = {name: suite for name, suite in EVERY.items() if suite.runs_here}
MINI = {name: suite for name, suite in HERE.items() if name.startswith("mini")}
KEPT = {name: suite for name, suite in HERE.items() if pages.docs_file(DOCS, name, "-scores.json").exists()}


@pytest.mark.parametrize("suite", EVERY.values(), ids=EVERY)
def test_names_fit_together(suite):
    for rows in (suite.pretrainings, suite.targets):
        assert max(Counter(row.name for row in rows).values()) == 1
    assert max(Counter(contrast.key for contrast in suite.contrasts).values()) == 1
    cells = {(row.name, target) for row in suite.pretrainings for target in row.targets}
    assert {target for _, target in cells} <= {target.name for target in suite.targets}
    compared = {(row, target.split("/")[0]) for contrast in suite.contrasts for row, target in contrast.cells}
    assert compared <= cells
    names = {row.name for row in suite.pretrainings}
    assert all(set(target.rates) <= names for target in suite.targets)
    assert {claim.kind for claim in suite.claims} <= {GREATER, EQUIVALENT}
    assert {ablation.kind for ablation in suite.ablations} <= {MEASURED}


@pytest.mark.parametrize("suite", EVERY.values(), ids=EVERY)
def test_every_config_works(suite):
    for run in runs.of_suite(suite, most=1):
        config = run.resolved()
        (checks.finetuning if run.cell else checks.pretraining)(config, 1)
        assert run.part in ("pretrain", "finetune", "adopt")
        assert not suite.runs_here or config.steps > 0


@pytest.mark.parametrize("suite", HERE.values(), ids=HERE)
def test_nothing_is_run_that_no_contrast_needs(suite):
    cells = {(row.name, target) for row in suite.pretrainings for target in row.targets}
    assert cells == {(row, target.split("/")[0]) for contrast in suite.contrasts for row, target in contrast.cells}


@pytest.mark.parametrize("suite", MINI.values(), ids=MINI)
def test_seeds(suite):
    main = ("scratch", "mdp", "multi_head", "pixel_to_pixel")
    assert all(suite.pretraining(name).seeds == 5 for name in main)
    targets = (6 if suite.name == "mini-real" else 5, 6, 6, 4)
    assert tuple(len(suite.pretraining(name).targets) for name in main) == targets
    expected = 3 if suite.name == "mini-real" else 5
    assert {len(suite.seeds_of(claim)) for claim in suite.claims} == {expected, 5}
    assert {len(suite.seeds_of(ablation)) for ablation in suite.ablations} == {3, 5}


def test_both_small_suites_claim_the_same():
    """But for the second unseen set, which the drawn suite does without."""
    claims = [[claim for claim in suite.claims if "elsewhere" not in claim.key] for suite in MINI.values()]
    assert [len(suite.claims) - len(shared) for suite, shared in zip(MINI.values(), claims, strict=True)] == [2, 0]
    first, second = ([(claim.key.split("/")[0], claim.kind) for claim in shared] for shared in claims)
    assert [kind for _, kind in first] == [kind for _, kind in second]
    assert {key for key, _ in first} ^ {key for key, _ in second} == {
        f"more_sets_over_{name}" for name in ("msrc_v2", "labelmefacade", "ccp", "harbor", "meadow", "town")
    }


def test_claims_page():
    page = (DOCS / "claims.md").read_text()
    assert pages.RULES in page
    assert all(pages.claims_of(suite) in page for suite in HERE.values())


@pytest.mark.parametrize("suite", KEPT.values(), ids=KEPT)
def test_kept_scores_and_pages(suite, tmp_path):
    """The scores under docs/results are of the suite as it is now, and page and JSON there are what they say."""
    every = runs.of_suite(suite)
    kept = pages.docs_file(DOCS, suite.name, "-scores.json")
    scores = score_files.read([str(kept)], every)
    assert len(scores) == len(json.loads(kept.read_text()))
    found = results.collect(suite, every, tmp_path, known=scores)
    assert json.loads(pages.docs_file(DOCS, suite.name, ".json").read_text()) == json.loads(
        json.dumps(pages.rows(found))
    )
    page = pages.docs_file(DOCS, suite.name, ".md").read_text()
    images = re.findall(r"\]\((\.\./images/reproduce_(?:\w+)_([a-z]+)\.png)\)", page)
    assert all((DOCS / "results" / path).resolve().is_file() for path, _ in images)
    order = ("claims", "ablations", "scores", "targets", "curves")
    paths = {name: path for path, name in sorted(images, key=lambda image: order.index(image[1]))}
    assert page == pages.results_page(found, paths)


def test_the_answer_is_short_and_its_differences_are_those_of_the_results():
    answer = (DOCS / "results.md").read_text()
    assert len(answer.splitlines()) <= 150
    rows = [row for name in KEPT for row in json.loads(pages.docs_file(DOCS, name, ".json").read_text())]
    measured = {
        f"{row['difference']:.{n}f} ({row['low']:.{n}f} to {row['high']:.{n}f})"
        for row in rows
        if row["low"] is not None
        for n in (1, 2)
    }
    said = re.findall(r"-?\d+\.\d+ \(-?\d+\.\d+ to -?\d+\.\d+\)", answer)
    assert said and set(said) <= measured


def test_operations_of_the_full_suite():
    """The figures in full.py against a count of the traced steps."""
    classes = {"configs/pretrain/voc_ade.py": 171, "configs/finetune/cityscapes.py": 19}
    counted = {}
    for path, number in classes.items():
        config = programs.with_batch(configs.load(path), 4)
        parts = programs.operations(config, jax.devices()[:1], programs.label_space(config, number))
        counted[path] = sum(parts.values()) / 4e9
    assert counted["configs/pretrain/voc_ade.py"] == pytest.approx(full.PRETRAINING_GFLOP["mdp"], rel=0.02)
    assert counted["configs/finetune/cityscapes.py"] == pytest.approx(2 * full.FINETUNING_GFLOP, rel=0.06)


def test_device_hours():
    found = {run.name: run for run in runs.of_suite(EVERY["full"], most=1)}
    # 100 epochs of 10,582 photos in batches of 256 are 4,134 steps of 256 x 272 GFLOP.
    hours = 4134 * 256 * 272e9 / (197e12 * 0.3) / 3600
    assert full.device_hours(found["voc/seed0/pretrain"]) == pytest.approx(hours)
    # 20,000 steps of 16 crops of 512 x 512.
    hours = 20_000 * 16 * 1295e9 / (197e12 * 0.3) / 3600
    assert full.device_hours(found["voc/seed0/voc"]) == pytest.approx(hours)


def test_the_study_of_transfer():
    """Claims are of seeds that nothing was selected on; what is left out is in no pretraining; draws are shared."""
    suite = EVERY["transfer"]
    assert {suite.seeds_of(claim) for claim in suite.claims} == {(2, 3, 4, 5, 6)}
    assert {len(claim.left) for claim in suite.claims} == {4} and all(claim.mean for claim in suite.claims)
    every = runs.of_suite(suite)
    scored = [run for run in every if run.part == "adopt"]
    assert all(("holdout" in str(run.overrides)) == (run.seed < 2) for run in scored)
    by_name = {run.name: run for run in every}
    for run in scored:
        if run.needs:
            assert run.resolved().dataset.root not in {s.root for s in by_name[run.needs].resolved().sources}
    assert len({run.more[2:] for run in scored}) == 1
    pretrained = [run for run in every if run.part == "pretrain"]
    assert {run.name.rpartition("/")[0] for run in pretrained} == {run.needs.rpartition("/")[0] for run in scored} - {
        ""
    }
    first = [run.name.split("/")[0] for run in runs.of_suite(suite) if run.part == "pretrain"][:8]
    assert [name.split("-")[0] for name in first] == ["mdp"] * 4 + ["multi_head"] * 4
