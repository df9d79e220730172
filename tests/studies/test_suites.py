"""The suites as data: everything named exists, every run has a config that works, docs/claims.md is what they say."""

import pathlib
from collections import Counter

import jax
import pytest

from mdp_jax import checks
from mdp_jax import config as configs
from mdp_jax.planning import programs
from mdp_jax.studies import claims_page, full, runs
from mdp_jax.studies.experiments import EQUIVALENT, GREATER, MEASURED
from mdp_jax.studies.suites import SUITES, mini_real, mini_synthetic

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINI = {"mini-real": mini_real(), "mini-synthetic": mini_synthetic()}
EVERY = {name: make() for name, make in SUITES.items()}


@pytest.mark.parametrize("suite", EVERY.values(), ids=EVERY)
def test_names_fit_together(suite):
    for rows in (suite.pretrainings, suite.targets):
        assert max(Counter(row.name for row in rows).values()) == 1
    assert max(Counter(contrast.key for contrast in suite.contrasts).values()) == 1
    cells = {(row.name, target) for row in suite.pretrainings for target in row.targets}
    assert {target for _, target in cells} <= {target.name for target in suite.targets}
    compared = {cell for contrast in suite.contrasts for cell in contrast.cells}
    assert compared <= cells
    names = {row.name for row in suite.pretrainings}
    assert all(set(target.rates) <= names for target in suite.targets)
    assert {claim.kind for claim in suite.claims} == {GREATER, EQUIVALENT}
    assert {ablation.kind for ablation in suite.ablations} <= {MEASURED}


@pytest.mark.parametrize("suite", EVERY.values(), ids=EVERY)
def test_every_config_works(suite):
    for run in runs.of_suite(suite, most=1):
        config = run.resolved()
        (checks.finetuning if run.cell else checks.pretraining)(config, 1)
        assert not suite.runs_here or config.steps > 0


@pytest.mark.parametrize("suite", MINI.values(), ids=MINI)
def test_nothing_is_run_that_no_contrast_needs(suite):
    cells = {(row.name, target) for row in suite.pretrainings for target in row.targets}
    assert cells == {cell for contrast in suite.contrasts for cell in contrast.cells}


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
    page = (ROOT / "docs" / "claims.md").read_text()
    assert page == claims_page.claims_page(list(MINI.values()))


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
