"""This package against stored outputs of PyTorch (make_golden.py): float64 runs, schedules, SGD, evaluation."""

import jax
import numpy as np
import pytest

from mdp_jax.parity import comparison_case, comparison_jax
from mdp_jax.parity.comparison import RULES
from mdp_jax.training import programs, sharding
from mdp_jax.training.state import OnMesh
from tests.parity.make_golden import FOLDER, STEPS, stored_forms


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Less of it: the programs run a few steps of a tiny network only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def no_initial_weights(monkeypatch):
    """States begin with zeros, which the comparison replaces: drawing weights takes seconds to compile."""

    def zeros_on_mesh(make, mesh, rules):
        shapes = jax.eval_shape(make)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return OnMesh(lambda: zeros, sharding.shardings(shapes, mesh, rules))

    monkeypatch.setattr(programs, "on_mesh", zeros_on_mesh)


def stored(case: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{case}.npz") as file:
        return dict(file)


def require_close(sections: dict, case: str) -> None:
    """Every leaf of every section within the tolerance of its rule, relative to the leaf's scale."""
    golden = stored(case)
    for section, arrays in sections.items():
        forms = stored_forms(arrays)
        ends = np.cumsum([form.size for form in forms.values()])
        assert golden[section].size == ends[-1]
        for (name, form), expected in zip(forms.items(), np.split(golden[section], ends[:-1]), strict=True):
            scale = np.max(np.abs(arrays[name]))
            error = np.max(np.abs(form - expected))
            assert error <= RULES[section].float64 * scale, f"{section}, {name}: {error} at scale {scale}"


@pytest.fixture(scope="module")
def case():
    return comparison_case.make_case("resnet18", "float64", STEPS)


def test_mixing_and_losses(case):
    require_close(comparison_jax.method_results(case), "method")


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_forward_layer_by_layer(backbone):
    case = comparison_case.make_case(backbone, "float64")
    with comparison_jax.computing_in("float64"):
        require_close(comparison_jax.forward(case), backbone)


def test_pretraining_steps_from_a_filled_bank_at_the_peak_learning_rate(case, no_initial_weights):
    with comparison_jax.computing_in("float64"):
        sections = comparison_jax.pretraining(case)
    require_close(sections, "resnet18")
    rates = sections[f"{comparison_case.PRETRAINING}, learning rate"][""]
    assert rates[0] == comparison_case.PEAK_LEARNING_RATE
    moved = sections[f"{comparison_case.PRETRAINING}, weights"]["backbone.conv1.weight"]
    assert np.abs(moved - comparison_case.weight("f", "backbone.conv1.weight", moved.shape)).max() > 0.01


def test_finetuning_steps(case, no_initial_weights):
    with comparison_jax.computing_in("float64"):
        require_close(comparison_jax.finetuning(case), "resnet18")


def test_float32_logits():
    expected = stored("float32")["logits"]
    case = comparison_case.make_case("resnet18", "float32")
    with comparison_jax.computing_in("float32"):
        logits = comparison_jax.evaluation_logits(case)["evaluation"]["logits"]
    assert logits.dtype == np.float32
    assert np.max(np.abs(logits - expected)) <= 1e-5 * np.max(np.abs(expected))


def test_schedules_and_sgd_over_100_steps():
    expected = stored("optim")
    ours = {**comparison_jax.schedules("float64"), **comparison_jax.sgd("float64")}
    assert set(ours) == set(expected)
    for name, values in expected.items():
        assert len(values) == 100
        np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-12 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize("kind", comparison_case.LABEL_MAPS)
def test_evaluation_counts_as_mmsegmentation(kind):
    expected = stored("evaluation")
    for section, arrays in comparison_jax.evaluation(kind).items():
        for name, values in arrays.items():
            np.testing.assert_allclose(values, expected[f"{kind}, {section}, {name}"], rtol=1e-14, err_msg=name)


def test_the_cases_are_complete(case):
    kinds = np.concatenate([batch["mix_kind"] for batch in case.batches])
    assert set(kinds) == {0, 1, 2}
    assert any((batch["box"][:, 2:] > batch["box"][:, :2]).all(axis=1).any() for batch in case.batches)
    labels = np.stack([batch[name] for batch in case.batches for name in ("label", "key_label")])
    classes = comparison_case.LABEL_SPACE.num_classes
    assert set(np.unique(labels)) == {-1, *range(classes)} - {comparison_case.NEVER_SEEN}
    assert np.flatnonzero(case.images_seen == 0).tolist() == list(comparison_case.UNSEEN)
    for batch in case.batches:
        of_label = comparison_case.LABEL_SPACE.dataset_of()[np.maximum(batch["label"], 0)]
        assert ((of_label == batch["dataset"][:, None, None]) | (batch["label"] < 0)).all()
        mixed = batch["mix_kind"] > 0
        assert (batch["dataset"][::2] != batch["dataset"][1::2])[mixed].all()
