"""The PyTorch reference by hand, where PyTorch is installed; and that it gives what is stored of it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")

from mdp_jax.parity import torch_reference  # noqa: E402
from mdp_jax.parity.torch_reference import Bank  # noqa: E402
from tests.parity import make_golden  # noqa: E402

METHOD = {"temperature": 0.5, "sparse_classes": 2, "sparse_weight": 0.25, "sparse_temperature": 1.0}


def bank(seen: list[int]) -> Bank:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    return Bank(vectors * (torch.tensor(seen)[:, None] > 0), torch.tensor(seen))


def losses(variant: str, v: list, labels: list, weights: list, seen: list[int]) -> dict[str, float]:
    method = SimpleNamespace(sparse_coding=variant, **METHOD)
    arguments = (torch.tensor(v, dtype=torch.float64), torch.tensor(labels), torch.tensor(weights, dtype=torch.float64))
    terms = torch_reference.losses(*arguments, bank(seen), method)
    return {name: float(term) for name, term in terms.items()}


def test_losses_of_one_pixel():
    # Cosines 1, 0, -1, 0.6; class 2 is unseen; logits are twice the cosines.
    pixel = ([[1.0, 0.0]], [[0, -1]], [[1.0, 0.0]], [1, 1, 0, 1])
    total = math.log(math.exp(2.0) + math.exp(0.0) + math.exp(1.2))
    off = losses("off", *pixel)
    assert off["prototype"] == pytest.approx(total - 2.0) and off["total"] == off["prototype"]
    w = math.exp(0.6) / (math.exp(0.6) + 1)  # of class 3; the rest is class 1's
    pull = losses("pull", *pixel)
    assert pull["sparse"] == pytest.approx(w * (total - 1.2) + (1 - w) * total)
    assert pull["total"] == pytest.approx(off["total"] + 0.25 * pull["sparse"])
    assert losses("no_push", *pixel)["total"] == pytest.approx(0.0)  # its own class alone is left


def test_losses_of_mixed_ignored_and_unseen_labels():
    v = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    first = losses("off", v, [[0, 1], [-1, -1], [2, -1]], [[0.75, 0.25], [1.0, 0.0], [1.0, 0.0]], [1, 1, 0, 1])
    total = math.log(math.exp(2.0) + math.exp(0.0) + math.exp(1.2))
    assert first["total"] == pytest.approx(0.75 * (total - 2.0) + 0.25 * total)
    nothing = losses("pull", v[:1], [[2, -1]], [[1.0, 0.0]], [1, 1, 0, 1])
    assert nothing == {"prototype": 0.0, "sparse": 0.0, "total": 0.0}
    alone = losses("pull", v[:1], [[0, -1]], [[1.0, 0.0]], [1, 0, 0, 0])
    assert alone == {"prototype": 0.0, "sparse": 0.0, "total": 0.0}


def test_bank_by_hand():
    # Class 0: image 0 has (1, 0) and (0, 1), image 1 has (1, 0). Class 2 is new, class 3 is absent.
    embeddings = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[1.0, 0.0]], [[0.0, -1.0]]]], dtype=torch.float64)
    labels = torch.tensor([[[0, 0]], [[0, 2]]])
    new = torch_reference.update_bank(bank([3, 1, 0, 1]), embeddings, labels, 0.5)
    half = math.sqrt(0.5)
    moved = np.array([0.5 + 0.5 * (half + 1) / 2, 0.5 * half / 2])
    np.testing.assert_allclose(new.vectors[0], moved / np.linalg.norm(moved))
    np.testing.assert_allclose(new.vectors[2], [0.0, -1.0])
    np.testing.assert_array_equal(new.vectors[[1, 3]], bank([3, 1, 0, 1]).vectors[[1, 3]])
    assert new.images_seen.tolist() == [5, 1, 1, 1]


def test_mixing_by_hand():
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 2, 2)
    labels = torch.arange(6).reshape(6, 1, 1).expand(6, 2, 2)
    kind, lam = torch.tensor([0, 1, 2]), torch.tensor([1.0, 0.5, 0.25])
    box = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 2], [0, 0, 0, 0]])
    mixed, mixed_labels, weights = torch_reference.mix_pairs(images, labels, kind, lam, box)
    assert mixed[:, 0, 0].tolist() == [[0, 0], [1, 1], [2, 3], [3, 2], [4.75, 4.75], [4.25, 4.25]]
    assert mixed_labels[:, 0, 1].tolist() == [[0, -1], [1, -1], [3, -1], [2, -1], [4, 5], [5, 4]]
    assert weights.tolist() == [[1, 0]] * 4 + [[0.25, 0.75]] * 2


def test_schedules_by_hand():
    assert torch_reference.cosine_with_warmup(0.4, 4, 8) == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))]
    )
    closed = [0.9 * (1 - i / 4) ** 0.5 + 0.1 for i in range(5)]
    assert torch_reference.poly_lr(1.0, 0.1, 0.5, 5) == pytest.approx(closed)


def test_intersect_and_union_by_hand():
    truth = torch.tensor([0, 0, 1, 255, 1, 7])
    prediction = torch.tensor([0, 1, 1, 1, 5, 1])
    areas = torch_reference.intersect_and_union(prediction, truth, 3)
    assert {name: area.tolist() for name, area in areas.items()} == {
        "intersect": [1, 1, 0],
        "union": [2, 4, 0],
        "prediction": [1, 3, 0],
        "label": [2, 2, 0],
    }
    scores = torch_reference.scores(areas)
    assert float(scores["mIoU"]) == pytest.approx((50 + 25) / 2) and math.isnan(scores["IoU"][2])
    assert (float(scores["mAcc"]), float(scores["aAcc"])) == (50.0, 50.0)


def test_stored_outputs_are_those_of_the_reference():
    for case, arrays in make_golden.compute().items():
        with np.load(make_golden.FOLDER / f"{case}.npz") as stored:
            assert set(stored) == set(arrays)
            for name, array in arrays.items():
                scale = np.abs(array).max()
                atol = (1e-6 if array.dtype == np.float32 else 1e-9) * scale
                np.testing.assert_allclose(stored[name], array, rtol=0, atol=atol, err_msg=f"{case}, {name}")
