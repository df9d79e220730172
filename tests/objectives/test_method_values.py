"""What of the config's `method` reaches the losses: networks that give what they are shown, and values by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.configs import typed
from mdp_jax.data.class_names import NameRelations
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.objectives.momentum import Embedded
from mdp_jax.objectives.objective import Query, Setting
from mdp_jax.objectives.registry import OBJECTIVES
from tests import tiny

SPACE = LabelSpace((("first", ("a", "b", "c")), ("second", ("d", "e"))))
RNG = np.random.default_rng(0)


class Echo:
    """A network whose outputs are its images, at the stride of features."""

    def __init__(self, stride):
        self.stride = stride

    def apply(self, variables, images, train, mutable, rngs):
        assert train
        return images[:, :: self.stride, :: self.stride], {}


@pytest.fixture
def functions_of(monkeypatch):
    """A function from an objective and values of `method` to its functions."""

    def made(objective, related=None, stride=8, **method):
        monkeypatch.setattr(network, "pixel_encoder", lambda model: Echo(stride))
        monkeypatch.setattr(network, "segmenter", lambda model, classes: Echo(stride))
        values = {f"method__{key}": value for key, value in method.items()}
        config = typed(tiny.pretrain_config(objective=objective, **values))
        setting = Setting.of(config, SPACE, 1, NameRelations(related, None))
        return OBJECTIVES[objective].functions(setting)

    return made


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


VECTORS = unit(RNG.normal(size=(5, 3)))
RELATED = np.zeros((5, 5), bool)
RELATED[0, 3] = RELATED[3, 0] = RELATED[1, 4] = RELATED[4, 1] = True
CASES = [
    {"temperature": 0.5, "sparse_temperature": 0.2, "sparse_classes": 2, "sparse_weight": 0.3},
    {"pixel_weights": "image_class"},
    {"negatives": "own_set", "sparse_classes": 1},
    {"related": True},
    {"related": True, "related_as": "positives"},
    {"sparse_coding": "off"},
]


def naive(vectors, labels, shares, case):
    """METHOD.md sections 4 and 9 for pixels [B, N] with two labels, whose weights are `shares`."""
    values = {"temperature": 0.1, "sparse_temperature": 0.1, "sparse_classes": 5, "sparse_weight": 0.1} | case
    own_set, in_image = case.get("negatives") == "own_set", case.get("pixel_weights") == "image_class"
    sets = np.array([0, 0, 0, 1, 1])
    total = divisor = 0.0
    for b, n in np.ndindex(labels.shape[:2]):
        own = [y for y in labels[b, n] if y >= 0]
        if not own:
            continue
        s = VECTORS @ vectors[b, n]
        among = [c for c in range(5) if not own_set or sets[c] in sets[own]]
        others = [c for c in among if c not in own]
        near = [c for c in others if case.get("related") and RELATED[c, own].any()]
        left_out = [] if case.get("related_as") == "positives" else near
        code = sorted((c for c in others if c not in left_out), key=lambda c: -s[c])[: values["sparse_classes"]]
        if case.get("related_as") == "positives" and near:
            code = near
        if case.get("sparse_coding") == "off":
            code = []
        negatives = [c for c in among if c not in left_out]
        log_total = np.log(np.exp(s[negatives] / values["temperature"]).sum())
        weights = []
        for share, y in zip(shares[b], labels[b, n], strict=True):
            weight = share if y >= 0 else 0.0
            if y >= 0 and in_image:
                weight /= (shares[b] * (labels[b] == y)).sum()
            weights.append(weight)
            total += weight * (log_total - s[y] / values["temperature"])
        if code:
            w = np.exp(s[code] / values["sparse_temperature"])
            total += (
                values["sparse_weight"] * sum(weights) * (w / w.sum()) @ (log_total - s[code] / values["temperature"])
            )
        divisor += sum(weights)
    return total / divisor


@pytest.mark.parametrize("case", CASES, ids=lambda case: "+".join(case))
def test_values_of_the_prototype_loss(functions_of, case):
    """Two photos of 2 x 2 features, the second of two labels each."""
    images = np.zeros((2, 16, 16, 3))
    images[:, ::8, ::8] = unit(RNG.normal(size=(2, 2, 2, 3)))
    labels = np.full((2, 16, 16, 2), -1)
    labels[:, ::8, ::8, 0] = [[[0, 0], [3, -1]], [[1, 1], [1, 4]]]
    labels[1, ::8, ::8, 1] = [[0, 2], [3, 0]]
    shares = np.array([[1.0, 0.0], [0.7, 0.3]])
    method = {key: value for key, value in case.items() if key != "related"}
    functions = functions_of("mdp", RELATED if case.get("related") else None, **method)
    query = Query(jnp.float32(images), jnp.asarray(labels), jnp.float32(shares).reshape(2, 1, 1, 2), {})
    state = types.SimpleNamespace(memory={"bank": Bank(jnp.float32(VECTORS), jnp.ones(5, jnp.int32))})
    loss = jax.jit(lambda query: functions.loss({}, {}, state, query)[0])(query)
    at_features = (x[:, ::8, ::8].reshape(2, 4, -1) for x in (images, labels))
    vectors, own = at_features
    assert float(loss) == pytest.approx(naive(vectors, own, shares, case), rel=1e-4)
    if case.get("sparse_coding") != "off":
        assert abs(naive(vectors, own, shares, {}) / float(loss) - 1) > 1e-3, "the case makes no difference"


@pytest.mark.parametrize("kind", ["pixel", "image_class"])
def test_weights_of_pixels_in_the_cross_entropies(functions_of, kind):
    """Four pixels, three of class 0 and one of class 1: each class weighs 1, or each pixel."""
    logits = np.array([[[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]], [[1.0, 1.0, 1.0], [0.5, 3.0, 0.0]]])
    labels = np.array([[0, 0], [0, 1]])
    functions = functions_of("cross_entropy", stride=1, pixel_weights=kind)
    query = Query(
        jnp.float32(logits)[None],
        jnp.asarray(np.stack([labels, np.full_like(labels, -1)], axis=-1))[None],
        jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2),
        {},
    )
    own = [np.log(np.exp(x).sum()) - x[y] for x, y in zip(logits.reshape(4, 3), labels.ravel(), strict=True)]
    expected = np.mean(own) if kind == "pixel" else (np.mean(own[:3]) + own[3]) / 2
    loss = jax.jit(lambda query: functions.loss({}, {}, None, query)[0])(query)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("warmup", [False, True])
def test_values_of_the_bank(functions_of, warmup):
    """Of one image before and one now: half of each in the warm-up, and 3/4 of the old one without it."""
    functions = functions_of("mdp", prototype_momentum=0.75, prototype_warmup=warmup)
    bank = Bank(jnp.float32(np.eye(5, 3)), jnp.ones(5, jnp.int32))
    memory = {"bank": bank, "momentum_params": {}, "momentum_batch_stats": {}}
    carry = {"embedded": Embedded(jnp.array([[[0.0, 1.0, 0.0]]]), {}), "metrics": {}}
    batch = {"key_image": jnp.zeros((1, 8, 8, 3)), "key_label": jnp.zeros((1, 8, 8), jnp.int32)}
    after = jax.jit(lambda batch: functions.update(types.SimpleNamespace(memory=memory), {}, batch, carry)[0])(batch)
    expected = np.array([0.5, 0.5, 0.0]) if warmup else np.array([0.75, 0.25, 0.0])
    np.testing.assert_allclose(after["bank"].vectors[0], unit(expected), rtol=1e-6)
    np.testing.assert_array_equal(after["bank"].vectors[1:], np.eye(5, 3)[1:])
