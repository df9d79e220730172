"""PyTorch's side of `mdp bench` computes what the reference does, where PyTorch is installed."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")

from mdp_jax.parity import comparison_case, torch_reference, torch_speed  # noqa: E402
from mdp_jax.parity.comparison_case import FINETUNE_CLASSES  # noqa: E402
from mdp_jax.parity.comparison_torch import load  # noqa: E402
from mdp_jax.parity.torch_reference import Bank  # noqa: E402


def _tensors(batch):
    return {name: torch.tensor(array) for name, array in batch.items()}


@pytest.fixture(scope="module")
def case():
    return comparison_case.make_case("resnet18", "float32", steps=3)


@pytest.mark.parametrize("variant", ["pull", "off"])
def test_losses_and_gradient(case, variant):
    method = case.pretrain.method.copy_and_resolve_references()
    method.sparse_coding = variant
    bank = Bank(torch.tensor(case.bank_vectors), torch.tensor(case.images_seen))
    labels, weights = torch.tensor(case.labels).flatten(0, 1), torch.tensor(case.weights).flatten(0, 1)
    found = []
    for function in (torch_speed.losses, lambda *arguments: torch_reference.losses(*arguments)["total"]):
        v = torch.tensor(case.embeddings).flatten(0, 1).requires_grad_()
        loss = function(v, labels, weights, bank, method)
        loss.backward()
        found.append((loss.item(), v.grad))
    (loss, gradient), (expected, expected_gradient) = found
    assert loss == pytest.approx(expected, rel=1e-12) and loss > 0.1
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-14)


def test_losses_of_few_classes_and_of_none():
    method = comparison_case.pretrain_config("resnet18", "float32").method
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    labels, weights = torch.tensor([[0, -1], [-1, -1]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    alone = torch_speed.losses(v, labels, weights, Bank(torch.eye(2), torch.tensor([1, 0])), method)
    assert alone.item() == 0.0  # no other class to be coded by, none to be told from
    nothing = torch_speed.losses(v, labels, weights, Bank(torch.eye(2), torch.tensor([0, 0])), method)
    nothing.backward()
    assert nothing.item() == 0.0 and (v.grad == 0).all()


def test_bank(case):
    bank = Bank(torch.tensor(case.bank_vectors), torch.tensor(case.images_seen))
    images, pixels, dim = case.embeddings.shape
    embeddings, labels = torch.tensor(case.embeddings), torch.tensor(case.labels[..., 0])
    new = torch_speed.update_bank(bank, embeddings, labels, 0.9)
    grid = embeddings.permute(0, 2, 1).reshape(images, dim, 1, pixels)
    expected = torch_reference.update_bank(bank, grid, labels[:, None], 0.9)
    torch.testing.assert_close(new.vectors, expected.vectors, rtol=1e-12, atol=1e-14)
    assert new.images_seen.tolist() == expected.images_seen.tolist()


def test_pretraining_steps(case):
    fast = torch_speed.Pretraining(
        case.pretrain, torch_speed.make_bank(case.bank_vectors, case.images_seen, "cpu"), "cpu"
    )
    expected = torch_reference.Pretraining(
        case.pretrain, torch_speed.make_bank(case.bank_vectors, case.images_seen, "cpu")
    )
    for loop in (fast, expected):
        load(loop.f, case.f)
        load(loop.g, case.g)
    for batch in map(_tensors, case.batches):
        loss, terms = fast.step(batch, 0.1), expected.step(batch, 0.1)
        assert loss.item() == pytest.approx(terms["total"].item(), rel=1e-4)
    torch.testing.assert_close(fast.bank.vectors, expected.bank.vectors, rtol=1e-4, atol=1e-5)
    for one, other in zip(fast.g.parameters(), expected.g.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("precision", "rel"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_finetuning_steps(case, precision, rel):
    config = case.finetune.copy_and_resolve_references()
    config.model.compute_dtype = precision
    fast = torch_speed.Finetuning(config, FINETUNE_CLASSES, "cpu")
    expected = torch_reference.Finetuning(case.finetune, FINETUNE_CLASSES, torch.float32)
    for loop in (fast, expected):
        load(loop.segmenter, case.segmenter)
    for batch in map(_tensors, case.finetune_batches):
        assert fast.step(batch, 0.01).item() == pytest.approx(expected.step(batch, 0.01).item(), rel=rel)
    assert all(weight.dtype == torch.float32 for weight in fast.segmenter.parameters())
