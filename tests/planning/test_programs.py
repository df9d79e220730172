"""Steps for devices that need not be there: inputs as the pipeline makes them, and where their operations go."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data import sources
from mdp_jax.data.batches import pipeline
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import collectives, flops, programs
from tests import tiny


def shapes(arrays):
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_batch_as_the_pipeline_makes_it(objective):
    config = tiny.pretrain_config(objective=objective, mixing__region=0.0, mixing__pixel=0.0)
    space = programs.label_space(config, None)
    program = programs.program(config, jax.devices()[:2], space)
    opened = [sources.open_source(s, config.data, "", "train", 0) for s in config.sources]
    key_view = OBJECTIVES[objective].two_views
    with contextlib.closing(
        pipeline.pretrain_batches(config, opened, space, start_batch=0, key_view=key_view)
    ) as batches:
        assert shapes(program.batch) == shapes(next(batches))
    assert {array.sharding.shard_shape(array.shape)[0] for array in program.batch.values()} == {4, 2}  # images, pairs


def test_batch_of_finetuning():
    config = tiny.finetune_config()
    program = programs.program(config, jax.devices()[:2], programs.label_space(config, 7))
    source = sources.open_source(config.dataset, config.data, "", "train", 0)
    with contextlib.closing(pipeline.finetune_batches(config, source, start_batch=0)) as batches:
        assert shapes(program.batch) == shapes(next(batches))
    assert program.state.params["classifier"]["conv"]["kernel"].shape[-1] == 7


def test_label_space():
    config = tiny.pretrain_config()
    assert [name for name, _ in programs.label_space(config, None).datasets] == ["harbor", "town"]
    invented = programs.label_space(config, 2001)
    assert [(name, len(classes)) for name, classes in invented.datasets] == [("harbor", 1000), ("town", 1001)]
    with pytest.raises(UserError, match="--classes 1: expected at least one for each of the 2 datasets"):
        programs.label_space(config, 1)
    config = tiny.pretrain_config(sources__town__labels="none")
    assert [len(classes) for _, classes in programs.label_space(config, 7).datasets] == [7, 0]
    config = base.pretrain()
    config.sources = (base.folder("streets", root="nowhere"),)
    with pytest.raises(UserError, match=r"nowhere.*to plan without the data, give the number of classes: --classes N"):
        programs.label_space(config, None)
    config = tiny.finetune_config(loss__class_weights="(1.0, 2.0)")
    with pytest.raises(UserError, match=r"class_weights: 2 weights; expected \d+, one for each class"):
        programs.label_space(config, None)


def test_share_of_a_device():
    """With `fsdp` a device holds a part of each kernel, and nothing is split otherwise."""
    config = tiny.pretrain_config(batch=8, fsdp=2)
    program = programs.program(config, jax.devices()[:2], programs.label_space(config, 10))
    images = 2 * 4 * 32 * 32 * (3 * 1 + 2)  # two views, uint8 colours and int16 labels
    assert programs.share(program.batch) == images + 4 * 4 + 2 * (4 + 4 + 16)
    kernels = sum(
        leaf.size * 4 for path, leaf in jax.tree_util.tree_leaves_with_path(program.state) if "kernel" in str(path)
    )
    everything = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.state))
    assert programs.share(program.state) == everything - kernels // 2


@pytest.mark.parametrize("backbone", ["resnet18", "vit_small_patch16"])
@pytest.mark.usefixtures("shallow")
def test_fsdp_gathers_kernels_and_no_activations(backbone):
    """Each kernel for the query's two passes and the momentum encoder's one; what is added up are gradients and means.

    Samples and kernels are split over the same axis, so a compiler that is left alone gathers activations as well.
    """
    values = {"model__backbone": backbone, "model__output_stride": 16, "model__width": 0.125, "data__crop": "(64, 64)"}
    config = tiny.pretrain_config(batch=32, fsdp=4, **values)
    program = programs.program(config, jax.devices()[:4], programs.label_space(config, 10))
    moved = collectives.count(program.step.lower(program.state, program.batch).compile().as_text())
    params = jax.tree_util.tree_leaves_with_path(program.state.params)
    kernels = sum(leaf.size * 4 for path, leaf in params if "kernel" in str(path))
    assert kernels < moved.bytes["all-gather"] <= 3 * kernels
    assert moved.bytes["all-reduce"] < 1.5 * sum(leaf.size * 4 for _, leaf in params)
    assert {kind for kind, size in moved.bytes.items() if size} <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_operations_of_the_encoders_are_those_of_the_encoders_alone():
    config = tiny.pretrain_config(batch=8, devices=2)
    space = programs.label_space(config, None)
    parts = programs.operations(config, jax.devices()[:2], space)
    encoder = network.pixel_encoder(config.model)
    images = jnp.zeros((4, 32, 32, 3))
    variables = jax.eval_shape(lambda: encoder.init(jax.random.key(0), images, train=False))

    def forward(params, batch_stats):
        return encoder.apply(
            {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
        )

    def backward(params, batch_stats, cotangent):
        vectors, pull, _ = jax.vjp(lambda params: forward(params, batch_stats), params, has_aux=True)
        return vectors, pull(cotangent)

    def count(function, *inputs):
        return sum(flops.count(jax.make_jaxpr(function)(*inputs).jaxpr).values())

    inputs = variables["params"], variables["batch_stats"]
    assert parts[programs.MOMENTUM] == count(forward, *inputs)
    vectors = jax.ShapeDtypeStruct((4, 4, 4, 8), np.float32)
    # Adding up the gradients of the weights, which is not the encoder's, is the same few operations in both.
    np.testing.assert_allclose(parts[programs.QUERY], count(backward, *inputs, vectors), rtol=1e-3)


@pytest.mark.parametrize("objective", ["pixel_to_pixel", "cross_entropy"])
def test_operations_of_the_baselines(objective):
    config = tiny.pretrain_config(objective=objective, mixing__region=0.0, mixing__pixel=0.0)
    parts = programs.operations(config, jax.devices()[:2], programs.label_space(config, 9))
    assert (parts[programs.MOMENTUM] > 0) == (objective == "pixel_to_pixel")
    assert parts[programs.QUERY] > parts[programs.REST] > 0


def test_what_is_computed_again_is_the_query_encoders():
    space = programs.label_space(tiny.pretrain_config(), None)
    plain = programs.operations(tiny.pretrain_config(), jax.devices()[:2], space)
    again = programs.operations(tiny.pretrain_config(model__remat="blocks"), jax.devices()[:2], space)
    assert again[programs.QUERY] > plain[programs.QUERY]
    assert again[programs.MOMENTUM] == plain[programs.MOMENTUM]
    assert again[programs.REST] == plain[programs.REST]


def test_the_method_adds_little_to_its_encoders():
    """At most 3 % of their operations: ResNet-50, 512-pixel crops, the classes of VOC, ADE20K and COCO-Stuff."""
    config = base.pretrain()
    config.sources = (base.synthetic("town", images=4),)
    config.data.crop = (512, 512)
    config.batch = 8
    parts = programs.operations(config, jax.devices()[:1], programs.label_space(config, 342))
    assert 0 < parts[programs.REST] < 0.03 * (parts[programs.QUERY] + parts[programs.MOMENTUM])
    # A product of 8 x 64 x 64 pixels and 256 dimensions by all classes for the value, and one for the gradient.
    assert parts[programs.REST] > 2 * 2 * 8 * 64 * 64 * 256 * 342


def test_another_optimizer_and_loss_of_finetuning():
    """The network costs the same; the state has two buffers of the parameters in place of one."""
    values = {"optim__name": "adamw", "optim__clip_norm": "1.0", "optim__layer_decay": 0.9, "loss__dice_weight": 1.0}
    values |= {"loss__class_weights": "inverse", "loss__ohem_threshold": 0.7}
    found, buffers = [], []
    for config in (tiny.finetune_config(devices=1), tiny.finetune_config(devices=1, **values)):
        space, devices = programs.label_space(config, 7), jax.devices()[:1]
        found.append(programs.operations(config, devices, space))
        program = programs.program(config, devices, space)
        counts = [leaf for leaf in jax.tree.leaves(program.state.opt_state) if not leaf.shape]
        buffers.append(programs.share(program.state.opt_state) - programs.share(counts))
        parameters = programs.share(program.state.params)
    assert buffers == [parameters, 2 * parameters]
    assert found[0][programs.QUERY] == found[1][programs.QUERY]
    assert found[0][programs.REST] < found[1][programs.REST]
