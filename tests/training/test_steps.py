"""The two steps: worked values of their parts, order of the updates, one device against eight, one trace."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.configs import typed
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.data.batches import pipeline
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.prototypes import Bank, normalise
from mdp_jax.method.segmentation_losses import segmentation_loss
from mdp_jax.models.apply import apply_training
from mdp_jax.models.network import upsample
from mdp_jax.models.normalisation import Normalise
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import programs, sharding, workdir
from mdp_jax.training.state import on_mesh
from mdp_jax.training.steps import traced_once
from tests import tiny

pytestmark = pytest.mark.usefixtures("shallow", "shared_programs")
LABEL_SPACE = LabelSpace((("first", ("a", "b", "c")), ("second", ("d", "e"))))


def filled_bank(dim):
    """A bank in which all classes but one were seen."""
    vectors = normalise(jax.random.normal(jax.random.key(1), (5, dim)))
    return Bank(vectors.at[4].set(0.0), jnp.array([3, 1, 2, 5, 0], jnp.int32))


@functools.cache
def of_one_device():
    """The program that several tests take steps of."""
    config, mesh = tiny.pretrain_config(batch=16, devices=1), sharding.make_mesh(1)
    return config, mesh, tiny.pretraining(config, mesh, LABEL_SPACE)


def pretraining(devices, **overrides):
    """State with a filled bank, where the objective has one, and the step, on a mesh of so many devices."""
    if devices == 1 and not overrides:
        config, mesh, program = of_one_device()
    else:
        config, mesh = tiny.pretrain_config(batch=16, devices=devices, **overrides), sharding.make_mesh(devices)
        program = tiny.pretraining(config, mesh, LABEL_SPACE)
    state = program.make()
    if "bank" in state.memory:
        bank = jax.device_put(filled_bank(config.model.projection.dim), tiny.bank(program.shardings))
        state = tiny.with_memory(state, bank=bank)
    return config, mesh, state, program.step


def steps(devices, count, **overrides):
    """Losses of `count` steps on drawn scenes from a filled bank at the peak learning rate, and the last state.

    In float64: the rounding of so small a network grows a hundredfold a step.
    """
    values = {"model__compute_dtype": "float64", "model__param_dtype": "float64"}
    config = tiny.pretrain_config(batch=16, devices=devices, **values, **overrides)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets)
    mesh = sharding.make_mesh(devices, config.fsdp)
    with jax.enable_x64(True):
        program = tiny.pretraining(config, mesh, label_space, samples=12)
        state, losses = program.make(), []
        vectors = normalise(jax.random.normal(jax.random.key(1), tiny.bank(state).vectors.shape))
        filled = Bank(vectors, jnp.ones(len(vectors), jnp.int32))
        state = tiny.with_memory(state, bank=jax.device_put(filled, tiny.bank(program.shardings)))
        batches = pipeline.pretrain_batches(config, datasets, label_space, start_batch=0)
        for batch in itertools.islice(batches, count):
            state, metrics = program.step(state, sharding.to_devices(batch, mesh))
            losses.append(float(metrics["loss"]))
            assert 0.1 < float(metrics["gradient_norm"]) < 1000, "nothing is learnt"
    return np.array(losses), state


@pytest.fixture(scope="module")
def on_one_device():
    return steps(1, 4)


def test_eight_devices_agree_with_one(on_one_device):
    losses, state = steps(8, 4)
    expected, expected_state = on_one_device
    assert expected.min() > 1.0, "nothing to compare"
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    np.testing.assert_allclose(tiny.bank(state).vectors, tiny.bank(expected_state).vectors, atol=1e-9)
    assert np.array_equal(tiny.bank(state).images_seen, tiny.bank(expected_state).images_seen)


def test_chunks_of_the_loss_agree(on_one_device):
    losses, _ = steps(1, 2, method__loss_chunk=112)  # 7 of the 16 feature pixels of each image
    np.testing.assert_allclose(losses, on_one_device[0][:2], rtol=1e-9)


def test_order_of_the_updates():
    """New momentum weights come from the new query weights; the bank from the momentum encoder as it was."""
    config, mesh, state, step = pretraining(1)
    batch = tiny.pretrain_batch(np.random.default_rng(0), config, 5)
    places, before = jax.tree.map(lambda leaf: leaf.sharding, state), jax.device_get(state)
    after, _ = step(state, sharding.to_devices(batch, mesh))
    after = jax.device_get(after)
    for old, new, query in zip(
        *(jax.tree.leaves(tree) for tree in (tiny.momentum(before)[0], tiny.momentum(after)[0], after.params)),
        strict=True,
    ):
        np.testing.assert_allclose(new, 0.9 * old + 0.1 * query, atol=1e-6)
    # The bank of a second step from the same momentum weights and other query weights is the same.
    changed = before.replace(params=jax.tree.map(lambda x: x * 1.5, before.params))
    again, _ = step(jax.device_put(changed, places), sharding.to_devices(batch, mesh))
    np.testing.assert_allclose(tiny.bank(again).vectors, tiny.bank(after).vectors, atol=1e-6)
    assert not np.array_equal(tiny.bank(before).vectors, tiny.bank(after).vectors)
    # Only the label of the clean key view is looked at: ids of the bank grow by its images.
    held = [[c in image[::8, ::8] for c in range(5)] for image in batch["key_label"]]
    assert (tiny.bank(after).images_seen - tiny.bank(before).images_seen).tolist() == np.sum(held, axis=0).tolist()


def test_empty_bank_gives_loss_zero_and_fills():
    config, mesh, state, step = pretraining(1)
    empty = jax.tree.map(jnp.zeros_like, tiny.bank(state))
    batch = sharding.to_devices(tiny.pretrain_batch(np.random.default_rng(0), config, 5), mesh)
    state, metrics = step(tiny.with_memory(state, bank=empty), batch)
    assert float(metrics["loss"]) == 0.0
    assert int(metrics["classes_seen"]) == 5
    state, metrics = step(state, batch)
    assert float(metrics["loss"]) > 0.1


def test_only_ignored_pixels():
    config, mesh, state, step = pretraining(1)
    batch = tiny.pretrain_batch(np.random.default_rng(0), config, 5)
    batch["label"][:], batch["key_label"][:] = -1, -1
    bank = jax.device_get(tiny.bank(state))
    state, metrics = step(state, sharding.to_devices(batch, mesh))
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["gradient_norm"]) == 0.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert np.array_equal(tiny.bank(state).vectors, bank.vectors)
    assert np.isnan(metrics["dataset_loss"]).all()


def test_a_batch_of_another_shape_is_refused():
    config, mesh, state, step = pretraining(1)
    batch = tiny.pretrain_batch(np.random.default_rng(0), config, 5)
    state, _ = step(state, sharding.to_devices(batch, mesh))
    batch["image"] = batch["image"][:, ::2, ::2]
    with pytest.raises(RuntimeError, match="step was traced twice"):
        step(state, sharding.to_devices(batch, mesh))


def test_traced_once():
    function = jax.jit(traced_once(lambda x: x + 1))
    assert [int(function(jnp.int32(1))) for _ in range(3)] == [2, 2, 2]


def test_normalise_by_hand():
    config = tiny.pretrain_config(data__mean="(10.,20.,30.)", data__std="(2.,4.,5.)")
    image = jnp.array([[[[12, 12, 40]]]], jnp.uint8)
    assert Normalise.of(config.data, "float32")(image).ravel().tolist() == [1.0, -2.0, 2.0]


def finetuning(devices, **overrides):
    config = tiny.finetune_config(batch=16, devices=devices, **overrides)
    mesh = sharding.make_mesh(devices)
    program = tiny.finetuning(config, mesh, num_classes=4)
    state, step = program.make(), program.step
    rng, losses, before = np.random.default_rng(0), [], jax.device_get(state)
    for _ in range(4):
        batch = {
            "image": rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8),
            "label": rng.integers(-1, 4, (16, 32, 32), dtype=np.int16),
        }
        state, metrics = step(state, sharding.to_devices(batch, mesh))
        losses.append(float(metrics["loss"]))
    return before, jax.device_get(state), losses


def test_finetuning_on_devices_agrees():
    *_, one = finetuning(1, model__decoder__dropout=0.0)
    *_, eight = finetuning(8, model__decoder__dropout=0.0)
    np.testing.assert_allclose(eight, one, rtol=1e-5)


def test_head_alone_moves():
    before, after, _ = finetuning(1, trainable="head", optim__ema_decay=0.9)
    for part in ("backbone", "decoder"):
        jax.tree.map(np.testing.assert_array_equal, before.params[part], after.params[part])
        jax.tree.map(np.testing.assert_array_equal, before.params[part], after.ema["params"][part])
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, after.batch_stats)
    moved = jax.tree.map(np.array_equal, before.params["classifier"], after.params["classifier"])
    assert not any(jax.tree.leaves(moved))


def test_parts_of_a_batch_move_the_head_as_the_whole_batch_does():
    """With batch normalisation frozen nothing else depends on how the batch is cut."""
    settings = {"trainable": "head", "loss_mean": "valid", "model__decoder__dropout": 0.0}
    _, whole, losses = finetuning(2, **settings)
    _, in_parts, losses_in_parts = finetuning(2, accumulate=4, **settings)
    np.testing.assert_allclose(losses_in_parts, losses, rtol=1e-5)
    for ours, theirs in zip(*(jax.tree.leaves(s.params["classifier"]) for s in (in_parts, whole)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def _two_losses(config, program, state, batch):
    """The losses of both heads in the first step, of the network and the loss alone."""
    loss = programs.loss_of(config, (1.0, 2.0, 0.5, 1.0))

    @jax.jit
    def losses(params, batch_stats, batch):
        label = batch["label"].astype(jnp.int32)
        image = Normalise.of(config.data, "float32")(batch["image"])
        rngs = {"dropout": jax.random.fold_in(jax.random.key(config.seed), 0)}
        found = apply_training(program.network, params, batch_stats, image, rngs)
        each = (upsample(logits, label.shape[1:]) for logits in (found.values, found.auxiliary))
        return [segmentation_loss(logits, label, loss)[0] for logits in each]

    return map(float, losses(state.params, state.batch_stats, batch))


def test_every_option_in_one_run_that_goes_on(tmp_path):
    """AdamW with all that belongs to it and the cross entropy with all that does, under fsdp, stopped and restored."""
    of_loss = {"label_smoothing": 0.1, "ohem_threshold": 0.7, "dice_weight": 1.0}
    of_optim = {"name": "adamw", "lr": 0.001, "clip_norm": "1.0", "layer_decay": 0.9, "warmup_steps": 2}
    of_optim |= {"ema_decay": 0.75}
    values = {f"loss__{key}": value for key, value in of_loss.items()}
    values |= {f"optim__{key}": value for key, value in of_optim.items()}
    values |= {"model__auxiliary__weight": 0.4, "model__auxiliary__channels": 8}
    config = tiny.finetune_config(batch=4, devices=2, fsdp=2, **values)
    mesh = sharding.make_mesh(2, 2)
    program = programs.finetuning(typed(config), mesh, 4, (1.0, 2.0, 0.5, 1.0))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8),
        "label": rng.integers(-1, 4, (4, 32, 32), dtype=np.int16),
    }
    batch = sharding.to_devices(batch, mesh)
    state, losses, second_losses = program.make(), [], []
    main_loss, second_loss = _two_losses(typed(config), program, state, batch)
    average = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    checkpoints = Checkpoints(tmp_path)
    for number in range(1, 6):
        state, metrics = program.step(state, batch)
        losses.append(float(metrics["loss"]))
        second_losses.append(float(metrics["auxiliary_loss"]))
        now = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
        average = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, average, now)
        if number == 2:
            checkpoints.save(2, state, {"label_space": LABEL_SPACE.rows(), "photos": {}})
    checkpoints.close()
    jax.tree.map(lambda ours, by_hand: np.testing.assert_allclose(ours, by_hand, atol=1e-6), state.ema, average)
    by_hand = main_loss + 0.4 * second_loss
    np.testing.assert_allclose([losses[0], second_losses[0]], [by_hand, second_loss], rtol=1e-5)
    assert losses[-1] < losses[1]  # the first two steps have the same weights but for a millionth
    again, _ = workdir.restore(Checkpoints(tmp_path), program.make(), program.shardings, LABEL_SPACE, {})
    assert int(again.step) == 2
    for _ in range(3):
        again, _ = program.step(again, batch)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(state))


def test_dropout_is_drawn_anew_in_each_step_and_part():
    """Two parts of the same photos, and the network frozen under the classifier."""
    rng = np.random.default_rng(0)
    half = {
        "image": rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        "label": rng.integers(0, 4, (8, 32, 32), dtype=np.int16),
    }
    losses = {}
    for accumulate, number in ((1, 0), (1, 1), (2, 0)):
        settings = {"trainable": "head", "model__decoder__dropout": 0.5, "accumulate": accumulate}
        config = tiny.finetune_config(batch=8 * accumulate, devices=1, **settings)
        mesh = sharding.make_mesh(1)
        program = tiny.finetuning(config, mesh, num_classes=4)
        state, step = program.make(), program.step
        batch = jax.tree.map(lambda x, times=accumulate: np.concatenate([x] * times), half)
        _, metrics = step(state.replace(step=state.step + number), sharding.to_devices(batch, mesh))
        losses[accumulate, number] = float(metrics["loss"])
    # The first part of the first step has the noise of the first step in one part.
    assert len({round(loss, 5) for loss in losses.values()}) == 3


def test_accuracy_of_parts_is_that_of_the_batch():
    """With a frozen network, and labels in one of two parts alone."""
    found = []
    for accumulate in (1, 2):
        config = tiny.finetune_config(
            batch=16, devices=1, trainable="head", model__decoder__dropout=0.0, accumulate=accumulate
        )
        mesh = sharding.make_mesh(1)
        program = tiny.finetuning(config, mesh, num_classes=4)
        state, step = program.make(), program.step
        rng = np.random.default_rng(0)
        image, label = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8), np.full((16, 32, 32), -1, np.int16)
        label[:8] = rng.integers(0, 4, (8, 32, 32))
        _, metrics = step(state, sharding.to_devices({"image": image, "label": label}, mesh))
        found.append([float(metrics[name]) for name in ("loss", "accuracy")])
    assert 0.1 < found[0][1] < 0.9
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


@pytest.mark.parametrize("objective", ["mdp", "pixel_to_pixel"])
def test_pretraining_in_parts_is_that_of_the_whole_batch(objective):
    """Where both parts, of each device, show the same photos: batch statistics are then those of the whole batch."""
    results = []
    for accumulate in (1, 2):
        config, mesh, state, step = pretraining(2, accumulate=accumulate, objective=objective)
        batch = tiny.pretrain_batch(np.random.default_rng(0), config, 5)
        for name in ("image", "key_image", "mix_kind", "lam", "box"):
            of_device = batch[name].reshape(2, 2, -1, *batch[name].shape[1:])
            of_device[:, 1] = of_device[:, 0]
        assert not np.array_equal(batch["label"][:4], batch["label"][4:8])
        state, metrics = step(state, sharding.to_devices(batch, mesh))
        results.append((state, metrics))
    (whole, expected), (in_parts, metrics) = results
    assert float(expected["loss"]) > 0.1, "nothing to compare"
    if objective == "mdp":
        assert tiny.bank(in_parts).images_seen.tolist() == tiny.bank(whole).images_seen.tolist()
        np.testing.assert_allclose(tiny.bank(in_parts).vectors, tiny.bank(whole).vectors, atol=1e-5)
    for name in ("valid_fraction", "accuracy"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-4)
    np.testing.assert_allclose(metrics["gradient_norm"], expected["gradient_norm"], rtol=1e-3)


@pytest.mark.parametrize(
    ("param", "compute", "accumulate", "remat"),
    [
        ("float64", "float32", 1, "none"),
        ("float32", "float64", 2, "none"),
        ("float32", "bfloat16", 2, "elementwise"),  # as configs/gpu
    ],
)
def test_unequal_precisions(param, compute, accumulate, remat):
    """The step computes what float32 does, to the rounding of the narrower type, and its state keeps its types."""
    first, losses = None, []
    for types, kept in ((("float32", "float32"), "none"), ((param, compute), remat)):
        with jax.enable_x64("float64" in types):
            values = {"model__param_dtype": types[0], "model__compute_dtype": types[1], "model__remat": kept}
            config, mesh, state, step = pretraining(1, accumulate=accumulate, **values)
            first = first or jax.device_get(state)
            state = jax.tree.map(lambda own, x: jax.device_put(x.astype(own.dtype), own.sharding), state, first)
            before = jax.tree.map(lambda leaf: leaf.dtype, state)
            batch = tiny.pretrain_batch(np.random.default_rng(0), config, 5)
            state, metrics = step(state, sharding.to_devices(batch, mesh))
            assert jax.tree.map(lambda leaf: leaf.dtype, state) == before
            losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.1 if compute == "bfloat16" else 1e-3)


def test_state_on_a_mesh_is_replicated():
    config = tiny.pretrain_config()
    state = tiny.pretraining(config, sharding.make_mesh(8), LABEL_SPACE).make()
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    with pytest.raises(ValueError, match="0 rules match"):
        on_mesh(lambda: {"unknown": jnp.zeros(2)}, sharding.make_mesh(2), sharding.state_rules(()))


def test_fsdp_changes_nothing_but_the_layout(on_one_device):
    losses, state = steps(8, 3, fsdp=4)
    np.testing.assert_allclose(losses, on_one_device[0][:3], rtol=1e-9)
    kernel = state.params["backbone"]["conv1"]["kernel"]
    assert kernel.addressable_shards[0].data.shape[-1] == kernel.shape[-1] // 4
