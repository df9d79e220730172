"""mdp_jax/exporting/agreement.py and program.py: what is compared, and what is refused."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs
from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.evaluation.discriminant import NEVER
from mdp_jax.exporting import agreement, exporting, program
from mdp_jax.exporting.program import Form
from mdp_jax.models import network
from tests import tiny
from tests.weights import seeded_weights

# One photo of 1 x 3 pixels, 2 classes; the second pixel is a tie but for 1e-4 of the largest logit, 4.
LOGITS = np.array([[[[4.0, 1.0], [2.0, 2.0004], [-1.0, 3.0]]]])


@pytest.mark.parametrize(("labels", "differing"), [([0, 1, 1], 0), ([0, 0, 1], 1)])
def test_labels_may_differ_at_a_tie(labels, differing):
    found = agreement.compare(np.array([[labels]], np.int32), LOGITS, "labels", "it")
    assert found == agreement.Agreement(3, differing, None)
    assert ("at a tie" in found.described()) == bool(differing)


def test_another_label_is_an_error():
    with pytest.raises(UserError, match=r"it: its answer differs from the network's by 0.75 of the largest logit"):
        agreement.compare(np.array([[[1, 1, 1]]], np.int32), LOGITS, "labels", "it")


def test_an_id_of_no_class_is_an_error():
    with pytest.raises(UserError, match="by inf of"):
        agreement.compare(np.array([[[0, 1, 2]]], np.int32), LOGITS, "labels", "it")


def test_logits_are_compared_with_the_largest():
    found = agreement.compare(LOGITS + 0.002, LOGITS, "logits", "it")
    assert found.differing == 0 and found.largest == pytest.approx(0.0005)
    with pytest.raises(UserError, match=r"by 0\.25 of"):
        agreement.compare(LOGITS - 1, LOGITS, "logits", "it")
    with pytest.raises(UserError, match="by nan of"):
        agreement.compare(LOGITS * np.nan, LOGITS, "logits", "it")


@pytest.mark.parametrize("output", ["labels", "logits"])
def test_a_class_that_is_never_predicted_is_no_measure(output):
    """Its logit of an adopted network is -1e9, beside which all others would be as good as equal."""
    logits = np.concatenate([LOGITS, np.full((1, 1, 3, 1), NEVER)], axis=-1)
    same, tie = {"labels": ([[[0, 1, 1]]], [[[0, 0, 1]]]), "logits": (logits, logits[..., [0, 1, 2]] + 0.002)}[output]
    assert agreement.compare(np.array(same), logits, output, "it").differing == 0
    assert agreement.compare(np.array(tie), logits, output, "it").differing == (output == "labels")
    wrong = {"labels": [[[1, 1, 1]]], "logits": logits[..., [1, 0, 2]]}[output]
    with pytest.raises(UserError, match=r"it: its answer differs from the network's by (0.75|1) of the largest logit"):
        agreement.compare(np.array(wrong), logits, output, "it")
    that_class = {"labels": [[[2, 1, 1]]], "logits": logits * [1, 1, 0.5]}[output]
    with pytest.raises(UserError, match="of the largest logit"):
        agreement.compare(np.array(that_class), logits, output, "it")


def test_drawn_photos_have_the_form():
    assert agreement.photos(Form(batch=3, size=(5, 40))).shape == (3, 5, 40, 3)
    drawn = agreement.photos(Form())
    assert drawn.dtype == np.uint8 and drawn.std() > 30 and (drawn[0] != drawn[1]).any()


def test_forms():
    assert Form(batch=2, size=(8, 9)).image().shape == (2, 8, 9, 3)
    assert str(Form(size=(8, 9)).image().shape) == "(batch, 8, 9, 3)"
    assert str(Form(batch=2).image().shape) == "(2, height, width, 3)"
    for wrong, message in (
        ({"output": "mask"}, "labels, logits"),
        ({"batch": 0}, "--batch 0"),
        ({"size": (0, 8)}, "0 8"),
    ):
        with pytest.raises(UserError, match=message):
            Form(**wrong)


def test_a_network_that_cannot_have_a_size():
    def at_least_eight(image):
        if image.shape[1] < 8:
            raise ValueError("too low")
        return image

    program.require_possible(at_least_eight, Form(batch=1, size=(8, 8)))
    with pytest.raises(UserError, match=r"--size 4 8: the network cannot have it \(too low\); expected another size"):
        program.require_possible(at_least_eight, Form(batch=1, size=(4, 8)))
    with pytest.raises(UserError, match="expected --size HEIGHT WIDTH and --batch NUMBER"):
        program.require_possible(at_least_eight, Form())


def test_the_words_name_what_was_compared():
    """ONNX is in float32, also where mdp predict computes in bfloat16."""
    for dtype, words in (
        ("float32", "compared with `mdp predict` on drawn noise: "),
        ("bfloat16", "compared with the network in float32 (`mdp predict` computes in bfloat16) on drawn noise: "),
    ):
        config = tiny.finetune_config(model__compute_dtype=dtype)
        run = types.SimpleNamespace(config=config, classes=("a", "b"))
        variables = seeded_weights.variables_of(network.segmenter(config.model, 2))
        same = exporting._Network(run, configs.typed_finetune(config).model, variables).in_float32()
        form = Form("logits", batch=1, size=(9, 11))
        assert same.compared(form, jax.jit(same.program("logits")), "it").startswith(words)


def test_float32_of_all_weights():
    variables = {"params": {"a": jnp.ones(2, jnp.bfloat16)}, "batch_stats": {}, "memory": 3}
    model, found = program.in_float32(ModelConfig(compute_dtype="bfloat16"), variables)
    assert (model.compute_dtype, model.param_dtype) == ("float32", "float32")
    assert found["params"]["a"].dtype == np.float32 and set(found) == {"params", "batch_stats"}
