"""The objectives beside MDP: naive loops on a network's own embeddings, one device against eight, unlabelled photos."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.objective import Query, prepare_nothing
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import programs
from mdp_jax.training import sharding
from tests import tiny

pytestmark = pytest.mark.usefixtures("shallow")
SPACE = LabelSpace((("first", ("a", "b", "c")), ("second", ("d", "e"))))
UNLABELLED = LabelSpace((("first", ("a", "b", "c")), ("photos", ()), ("second", ("d", "e"))))
UNMIXED = {"mixing__region": 0.0, "mixing__pixel": 0.0}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_views_are_for_objectives_with_a_momentum_encoder(name):
    config = tiny.pretrain_config(objective=name, **{} if OBJECTIVES[name].mixes else UNMIXED)
    memory = tiny.functions(config, SPACE).init({"any": jnp.zeros(1)}, {})
    assert ("momentum_params" in memory) is OBJECTIVES[name].two_views


class Built:
    """A step that is traced once, and the state to begin from, with g unlike f.

    Attributes:
      config, mesh, step: of the run.
      state: on the host.
    """

    def __init__(self, devices, space, **overrides):
        self.config = tiny.pretrain_config(batch=16, devices=devices, **overrides)
        self.mesh = sharding.make_mesh(devices, self.config.fsdp)
        program = tiny.pretraining(self.config, self.mesh, space)
        self._shardings, self.step = program.shardings, program.step
        state = jax.device_get(program.make())
        if "momentum_params" in state.memory:
            momentum_params = jax.tree.map(lambda x: 1.5 * x, state.memory["momentum_params"])
            state = tiny.with_memory(state, momentum_params=momentum_params)
        self.state = state

    def on_devices(self, batch):
        """state, batch."""
        return jax.device_put(self.state, self._shardings), sharding.to_devices(batch, self.mesh)

    def steps(self, batch, count):
        """Metrics of each of so many steps on one batch, and the state after them, on the host."""
        (state, batch), measured = self.on_devices(batch), []
        for _ in range(count):
            state, metrics = self.step(state, batch)
            measured.append(jax.device_get(metrics))
        return measured, jax.device_get(state)


def unmixed_batch(config, classes=5):
    batch = tiny.pretrain_batch(np.random.default_rng(0), config, classes)
    return batch | {"mix_kind": np.zeros_like(batch["mix_kind"])}


def embeddings(config, params, batch_stats, images):
    """Unit vectors [B, N, D] in training."""
    return embedded(config, params, batch_stats, images)[0]


def embedded(config, params, batch_stats, images):
    """Unit vectors [B, N, D] in training, and the running statistics after it."""
    encoder = network.pixel_encoder(config.model)

    @jax.jit
    def apply(params, batch_stats, images):
        images = Normalise.of(config.data, "float32")(images)
        variables = {"params": params, "batch_stats": batch_stats}
        return encoder.apply(variables, images, train=True, mutable=["batch_stats"])

    found, updated = apply(params, batch_stats, images)
    return np.array(found).reshape(len(images), -1, found.shape[-1]), jax.device_get(updated["batch_stats"])


def assert_close(found, expected, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), found, expected)


def pixel_to_pixel(devices, **rest):
    """Six of the 4 x 4 features of each view are drawn."""
    overrides = {"objective": "pixel_to_pixel", "method__pixel_budget": 6, "model__width": 0.25, **rest}
    return Built(devices, SPACE, **overrides, **UNMIXED)


@pytest.fixture(scope="module")
def on_one_device():
    return pixel_to_pixel(1)


def test_pixel_to_pixel_against_a_naive_loop(on_one_device):
    config, before, batch = on_one_device.config, on_one_device.state, unmixed_batch(on_one_device.config)
    for name in ("label", "key_label"):
        batch[name][:, 8:24, :] = -1  # of which eight features are left,
        batch[name][:, :8, 16:] = -1  # and six
    (metrics,), after = on_one_device.steps(batch, 1)
    queries = embeddings(config, before.params, before.batch_stats, batch["image"])
    keys, statistics = embedded(config, *tiny.momentum(before), batch["key_image"])
    assert_close(tiny.momentum(after)[1], statistics)  # of its own view, and with its own weights
    labels, key_labels = (batch[name][:, ::8, ::8].reshape(16, -1) for name in ("label", "key_label"))
    losses = []
    for b, i in np.ndindex(labels.shape):
        valid = np.flatnonzero(key_labels[b] >= 0)
        positives = valid[key_labels[b, valid] == labels[b, i]]
        if labels[b, i] >= 0 and len(positives):
            scores = keys[b] @ queries[b, i] / config.method.temperature
            losses.append(np.log(np.exp(scores[valid]).sum()) - scores[positives].mean())
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(metrics["valid_fraction"], len(losses) / (16 * 6), rtol=1e-6)
    assert metrics["dropped_fraction"] == 0.0 and metrics["gradient_norm"] > 0.0
    assert "bank" not in before.memory | after.memory
    averages = jax.tree.map(lambda g, f: 0.9 * g + 0.1 * f, before.memory["momentum_params"], after.params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), after.memory["momentum_params"], averages)


def test_pixel_to_pixel_on_eight_devices_agrees_with_one():
    """In float64: in float32 the rounding of so small a network grows a hundredfold a step."""
    types = {"model__compute_dtype": "float64", "model__param_dtype": "float64", "model__width": 0.0625}
    with jax.enable_x64(True):
        on_one_device, on_eight_devices = pixel_to_pixel(1, **types), pixel_to_pixel(8, fsdp=2, **types)
        batch = unmixed_batch(on_one_device.config)
        (expected, expected_state), (found, state) = (run.steps(batch, 2) for run in (on_one_device, on_eight_devices))
    counts = [(batch[name][:, ::8, ::8] >= 0).sum((1, 2)) for name in ("label", "key_label")]
    dropped = np.mean([np.maximum(count - 6, 0).sum() / count.sum() for count in counts])
    assert dropped > 0.2 and expected[0]["loss"] > 0.1, "nothing to compare"
    for one, eight in zip(expected, found, strict=True):
        np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-6)
        np.testing.assert_allclose([one["dropped_fraction"], eight["dropped_fraction"]], dropped, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected_state.params), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


def test_each_step_draws_pixels_of_its_own(on_one_device):
    prepare = jax.jit(tiny.functions(on_one_device.config, SPACE).prepare)
    state, batch = on_one_device.on_devices(unmixed_batch(on_one_device.config))
    # In both views the label of each feature is its number: so those of the keys say which ones were drawn.
    number = np.arange(16).reshape(4, 4).repeat(8, axis=0).repeat(8, axis=1)
    batch |= {name: jnp.broadcast_to(jnp.int16(number), batch[name].shape) for name in ("label", "key_label")}
    drawn = [prepare(state.replace(step=jnp.int32(n)), batch).aux for n in (0, 0, 1)]
    assert not (drawn[0]["positions"] == drawn[0]["key_labels"]).all(axis=1).any(), "both views by one draw"
    first, again, second = (aux["positions"] for aux in drawn)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_pixel_to_pixel_without_labels(on_one_device):
    batch = unmixed_batch(on_one_device.config)
    batch["label"][:] = -1
    (metrics,), state = on_one_device.steps(batch, 1)
    assert metrics["loss"] == metrics["gradient_norm"] == 0.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert np.isnan(metrics["dataset_loss"]).all()


def lowered(**overrides):
    """The text of the whole step's program."""
    program = programs.program(tiny.pretrain_config(**overrides), jax.devices()[:1], SPACE)
    return program.step.lower(program.state, program.batch).as_text()


def test_prototype_is_mdp_without_sparse_coding():
    alone = lowered(objective="prototype", method__sparse_coding="pull", **UNMIXED)
    assert alone == lowered(method__sparse_coding="off", **UNMIXED)


def test_prototypes_of_mixed_photos_against_a_naive_loop():
    """Region: the partner's box in photo and labels; pixel: a blend that counts for no prototype."""
    run = Built(1, SPACE, method__momentum_view="mixed", model__width=0.25)
    batch = tiny.pretrain_batch(np.random.default_rng(0), run.config, 5)
    batch["label"][...] = batch["key_label"][...] = (
        np.random.default_rng(1).integers(-1, 5, (16, 4, 1, 4, 1)).repeat(8, 2).repeat(8, 4).reshape(16, 32, 32)
    )
    images, labels = batch["key_image"].astype(np.float64), batch["key_label"].copy()
    for pair, (kind, lam, (y0, x0, y1, x1)) in enumerate(
        zip(*(batch[n] for n in ("mix_kind", "lam", "box")), strict=True)
    ):
        for own, other in ((2 * pair, 2 * pair + 1), (2 * pair + 1, 2 * pair)):
            if kind == 1:
                images[own, y0:y1, x0:x1] = batch["key_image"][other, y0:y1, x0:x1]
                labels[own, y0:y1, x0:x1] = batch["key_label"][other, y0:y1, x0:x1]
            if kind == 2:
                images[own] = lam * batch["key_image"][own] + (1 - lam) * batch["key_image"][other].astype(np.float64)
                labels[own] = -1
    _, state = run.steps(batch, 1)
    keys, statistics = embedded(run.config, *tiny.momentum(run.state), images.astype(np.float32))
    assert_close(tiny.momentum(state)[1], statistics)
    labels = labels[:, ::8, ::8].reshape(16, -1)
    for c in range(5):
        means = [keys[b][labels[b] == c].sum(0) for b in range(16) if (labels[b] == c).any()]
        mean = np.sum([m / np.linalg.norm(m) for m in means], axis=0)
        assert tiny.bank(state).images_seen[c] == len(means) <= 12
        np.testing.assert_allclose(tiny.bank(state).vectors[c], mean / np.linalg.norm(mean), atol=1e-5)


def test_heads_of_the_cross_entropies():
    """A mixed pixel counts with both labels; the softmax is over the label's dataset, or over all classes."""
    heads = {"multi_head": [[0, 1, 2]] * 3 + [[3, 4]] * 2, "cross_entropy": [[0, 1, 2, 3, 4]] * 5}
    both = [tiny.functions(tiny.pretrain_config(objective=name), SPACE) for name in heads]
    model, rng = both[0].network, np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(4, 32, 48, 3)), jnp.float32)
    labels = rng.integers(-1, 5, (4, 32, 48, 2))
    weights = np.array([0.7, 0.3], np.float32) * np.ones((4, 1, 1, 1), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.3).astype(np.float32), shapes)

    @jax.jit
    def measure(params, batch_stats):
        query = Query(images, jnp.asarray(labels), jnp.asarray(weights), {})
        variables = {"params": params, "batch_stats": batch_stats}
        logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        losses = [objective.loss(params, batch_stats, None, query)[0] for objective in both]
        return losses, network.upsample(logits, (32, 48))

    losses, logits = measure(variables["params"], variables["batch_stats"])
    exponentials = np.exp(np.array(logits, np.float64))
    for loss, head_of in zip(losses, heads.values(), strict=True):
        total = count = 0.0
        for c, m in np.ndindex(5, 2):
            here, weight = labels[..., m] == c, weights[0, 0, 0, m]
            share = exponentials[here][:, c] / exponentials[here][:, head_of[c]].sum(-1)
            total, count = total - weight * np.log(share).sum(), count + weight * here.sum()
        np.testing.assert_allclose(loss, total / count, rtol=1e-5)


@pytest.mark.parametrize("name", ["multi_head", "cross_entropy"])
def test_cross_entropies_on_eight_devices_agree_with_one(name):
    """Mixed photos among them."""
    found = []
    for devices in (1, 8):
        run = Built(devices, SPACE, objective=name, model__width=0.25)
        found.append(run.steps(tiny.pretrain_batch(np.random.default_rng(0), run.config, 5), 2))
    (expected, expected_state), (measured, state) = found
    assert expected[0]["loss"] > 0.1, "nothing to compare"
    np.testing.assert_allclose([of["loss"] for of in measured], [of["loss"] for of in expected], rtol=1e-4)
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected_state.params), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def with_bank(devices=1, space=SPACE, **overrides):
    """A run from a bank of random prototypes; class 2 was not seen."""
    run = Built(devices, space, **overrides)
    vectors = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    bank = Bank(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.array([3, 1, 0, 5, 2], np.int32))
    run.state = tiny.with_memory(run.state, bank=bank)
    return run


def with_unlabelled(devices, fsdp=1):
    """A run with an unlabelled dataset."""
    return with_bank(devices, UNLABELLED, method__pseudo_threshold=0.8, model__width=0.25, fsdp=fsdp)


@pytest.fixture(scope="module")
def with_photos():
    return with_unlabelled(1)


def photos_batch(config):
    """Every second photo is of the unlabelled dataset; class 4 is in no key view."""
    batch = unmixed_batch(config)
    batch["dataset"] = np.array([0, 1] * 8, np.int32)
    batch["key_label"][batch["key_label"] == 4] = -1
    for name in ("label", "key_label"):
        batch[name][1::2] = -1
    return batch


def test_pseudo_labels_of_a_batch(with_photos):
    config, bank, batch = with_photos.config, tiny.bank(with_photos.state), photos_batch(with_photos.config)
    found = jax.jit(tiny.functions(config, UNLABELLED).prepare)(*with_photos.on_devices(batch))
    state = with_photos.state
    keys = embeddings(config, *tiny.momentum(state), batch["key_image"])
    scores = np.exp(keys.astype(np.float64) @ bank.vectors.T / config.method.temperature) * (bank.images_seen > 0)
    shares = scores / scores.sum(-1, keepdims=True)
    expected = np.where(shares.max(-1) >= 0.8, shares.argmax(-1), -1).reshape(16, 4, 4)
    passed = (expected[1::2] >= 0).mean()
    assert 0.1 < passed < 0.9, "nothing to compare"
    np.testing.assert_allclose(found.carry["metrics"]["pseudo_fraction"], passed, rtol=1e-6)
    label = np.array(found.label)
    np.testing.assert_array_equal(label[::2], batch["label"][::2])
    np.testing.assert_array_equal(label[1::2], expected[1::2].repeat(8, axis=1).repeat(8, axis=2))
    assert found.aux == {}


def test_pseudo_labels_count_in_the_loss_and_not_in_the_bank(with_photos):
    batch, bank = photos_batch(with_photos.config), tiny.bank(with_photos.state)
    (metrics,), state = with_photos.steps(batch, 1)
    labels = batch["label"][::2, ::8, ::8]
    counted = ((labels >= 0) & (labels != 2)).sum()
    assert metrics["pseudo_fraction"] > 0.1
    np.testing.assert_allclose(metrics["valid_fraction"] * 256, counted + metrics["pseudo_fraction"] * 128, rtol=1e-5)
    held = [[c in label[::8, ::8] for c in range(5)] for label in batch["key_label"][::2]]
    assert (tiny.bank(state).images_seen - bank.images_seen).tolist() == np.sum(held, axis=0).tolist()
    np.testing.assert_array_equal(tiny.bank(state).vectors[4], bank.vectors[4])
    assert metrics["dataset_loss"].shape == (3,) and np.isnan(metrics["dataset_loss"][1])


def test_pseudo_labels_on_eight_devices_agree_with_one(with_photos):
    batch = photos_batch(with_photos.config)
    (expected,), expected_state = with_photos.steps(batch, 1)
    (found,), state = with_unlabelled(8, fsdp=2).steps(batch, 1)
    for name in ("loss", "pseudo_fraction", "valid_fraction"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
    for ours, theirs in zip(jax.tree.leaves(tiny.bank(state)), jax.tree.leaves(tiny.bank(expected_state)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_batch_without_unlabelled_photos_measures_no_share_of_them(with_photos):
    batch = photos_batch(with_photos.config)
    batch["dataset"] = np.array([0, 2] * 8, np.int32)
    (metrics,), _ = with_photos.steps(batch, 1)
    assert np.isnan(metrics["pseudo_fraction"]) and np.isfinite(metrics["loss"])


@pytest.mark.parametrize("stride", [8, 2])
def test_labels_finer_than_features_against_a_naive_loop(stride):
    """Logits interpolated by hand to the places of the labels; the bank from the labels amid the features."""
    run = with_bank(method__label_stride=stride, model__width=0.25, method__sparse_coding="off")
    batch, before = unmixed_batch(run.config), run.state
    (metrics,), after = run.steps(batch, 1)
    vectors = embeddings(run.config, before.params, before.batch_stats, batch["image"]).reshape(16, 4, 4, -1)
    logits = vectors.astype(np.float64) @ tiny.bank(before).vectors.T / run.config.method.temperature
    first, losses, hits, seen = (
        stride // 2,
        ([], []),
        [],
        tiny.bank(before).images_seen > 0,
    )  # losses of each dataset
    for b, y, x in np.ndindex(16, 32 // stride, 32 // stride):
        label = batch["label"][b, first + y * stride, first + x * stride]
        if label < 0 or not seen[label]:
            continue
        here = np.zeros(5)
        for (row, down), (column, right) in itertools.product(
            *(corners((at + 0.5) * stride / 8 - 0.5) for at in (y, x))
        ):
            here += down * right * logits[b, row, column]
        shares = np.exp(here) * seen
        losses[int(label >= 3)].append(np.log(shares.sum()) - here[label])
        hits.append(shares.argmax() == label)
    every = [*losses[0], *losses[1]]
    for name in ("loss", "prototype_loss"):
        np.testing.assert_allclose(metrics[name], np.mean(every), rtol=1e-4)
    np.testing.assert_allclose(metrics["dataset_loss"], [np.mean(of) for of in losses], rtol=1e-4)
    assert 0.05 < np.mean(hits) < 0.95 and metrics["sparse_loss"] == 0.0
    np.testing.assert_allclose(metrics["accuracy"], np.mean(hits), rtol=1e-4)
    np.testing.assert_allclose(metrics["valid_fraction"], len(every) / (16 * (32 // stride) ** 2), rtol=1e-5)
    pairs = itertools.combinations(tiny.bank(after).vectors[tiny.bank(after).images_seen > 0], 2)
    np.testing.assert_allclose(metrics["bank_cosine"], np.mean([one @ other for one, other in pairs]), rtol=1e-4)
    held = [[c in label[4::8, 4::8] for c in range(5)] for label in batch["key_label"]]
    assert (tiny.bank(after).images_seen - tiny.bank(before).images_seen).tolist() == np.sum(held, axis=0).tolist()


def test_both_parts_of_the_loss_are_measured():
    run, without = (with_bank(model__width=0.25, method__sparse_coding=kind) for kind in ("pull", "off"))
    batch = unmixed_batch(run.config)
    (metrics,), _ = run.steps(batch, 1)
    (alone,), _ = without.steps(batch, 1)
    np.testing.assert_allclose(metrics["prototype_loss"], alone["loss"], rtol=1e-5)
    sparse = (metrics["loss"] - alone["loss"]) / run.config.method.sparse_weight
    assert sparse > 0.1
    np.testing.assert_allclose(metrics["sparse_loss"], sparse, rtol=1e-3)


def corners(position):
    """(index, weight) of the two of four features on either side of a position, which ends at the outer ones."""
    position = min(max(position, 0.0), 3.0)
    low = min(int(position), 2)
    return (low, low + 1 - position), (low + 1, position - low)


def test_labelled_datasets_have_nothing_before_the_loss():
    for name in (name for name, entry in OBJECTIVES.items() if entry.unlabelled or entry.head == "classifier"):
        objective = tiny.functions(tiny.pretrain_config(objective=name), SPACE)
        assert objective.prepare is prepare_nothing


def test_frequencies_norm_and_weights_together_in_a_step():
    """The bank counts the labels that its prototypes are made of; the scorer adds their logarithms."""
    options = {"method__class_frequencies": True, "model__projection__final_norm": True}
    built = Built(1, SPACE, method__pixel_weights="image_class", **options)
    batch = unmixed_batch(built.config)
    _, state = built.steps(batch, 2)
    stride = network.feature_stride(built.config.model)
    labels = batch["key_label"][:, ::stride, ::stride]
    expected = 2 * np.bincount(labels[labels >= 0], minlength=5)
    np.testing.assert_array_equal(tiny.bank(state).pixels, expected)
    assert "bn2" in state.params["projection"] and "bias" not in state.params["projection"]["conv2"]
    variables = {"params": state.params, "batch_stats": state.batch_stats, "memory": state.memory}
    images, ids = jnp.ones((1, 32, 32, 3)), np.array([3, 4])
    scorer = OBJECTIVES["mdp"].scorer
    typed = configs.typed(built.config)
    logits = jax.jit(scorer(typed.model, typed.method, 5, ids))
    plain = tiny.with_memory(state, bank=dataclasses.replace(tiny.bank(state), pixels=None)).memory
    added = logits(variables, images) - logits(variables | {"memory": plain}, images)
    frequencies = np.log(expected / expected.sum())[ids]
    np.testing.assert_allclose(added, np.broadcast_to(frequencies, added.shape), rtol=1e-4, atol=1e-4)
    # A class never seen is never the answer, however small a part of the pixels a set has.
    bank = jax.tree.map(lambda leaf: jnp.asarray(leaf).at[3].set(0), tiny.bank(state))
    memory = tiny.with_memory(state, bank=dataclasses.replace(bank, pixels=bank.pixels.at[0].mul(1000))).memory
    warm = dataclasses.replace(typed.method, temperature=1.0)
    found = jax.jit(scorer(typed.model, warm, 5, ids))(variables | {"memory": memory}, images)
    assert (found[..., 1] > found[..., 0] + 0.9).all()
