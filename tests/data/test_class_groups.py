"""`class_groups` of a dataset: other names, another order, several classes as one."""

import numpy as np
import pytest

from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.data.class_groups import grouped
from mdp_jax.data.sources import open_source
from mdp_jax.errors import UserError
from tests import tiny

CLASSES = ("sky", "tree", "road", "lane")


def test_values_by_hand():
    found = grouped("set", CLASSES, ("tree",), (("ground", "lane", "road"),))
    assert found.classes == ("ground", "sky") and found.of == ((3, 2), (0,))
    assert found.new_ids(4).tolist() == [1, -1, 0, 0, -1]
    assert grouped("set", CLASSES, (), ()).of == ((0,), (1,), (2,), (3,))
    swapped = grouped("set", CLASSES, (), (("tree", "sky"), ("sky", "tree")))
    assert swapped.classes == ("tree", "sky", "road", "lane") and swapped.new_ids(4).tolist() == [0, 1, 2, 3, -1]


@pytest.mark.parametrize(
    ("drop", "groups", "message"),
    [
        ((), (("ground",),), r"set: class_groups has \('ground',\); expected rows of a name and classes"),
        ((), (("ground", "moon"),), "set: class_groups has 'moon'; expected some of sky, tree, road, lane"),
        (("road",), (("ground", "road"),), "set: class_groups has 'road', which drop_classes has too; expected"),
        ((), (("a", "road"), ("b", "road", "sky")), "set: class_groups has 'road' twice; expected each class once"),
        ((), (("sky", "road"),), "set: class_groups makes two classes 'sky'; expected each name once"),
    ],
)
def test_groups_that_cannot_be(drop, groups, message):
    with pytest.raises(UserError, match=message):
        grouped("set", CLASSES, drop, groups)


def test_a_source_with_groups():
    config = tiny.finetune_config()
    plain = open_source(base.typed(config).dataset, base.typed(config).data, "", "train", 0)
    first, second, third, *rest = plain.classes
    groups = (("both", third, first),)
    configs.apply_overrides(
        config, [("dataset.class_groups", repr(groups)), ("dataset.drop_classes", f"({second!r},)")]
    )
    typed = base.typed(config)
    source = open_source(typed.dataset, typed.data, "", "train", 0)
    assert source.classes == ("both", *rest)
    for i in range(3):
        table = np.array([0, -1, 0, *range(1, len(rest) + 1), -1])
        np.testing.assert_array_equal(source[i]["label"], table[plain[i]["label"]])
    assert typed == base.typed(configs.from_dict(configs.to_dict(config)))  # through config.json


def test_unlabelled_sets_have_no_groups():
    config = tiny.pretrain_config(sources__town__labels="none", sources__town__class_groups="(('a', 'sky'),)")
    typed = base.typed(config)
    with pytest.raises(UserError, match="class_groups with labels='none'; expected no classes to group"):
        open_source(typed.sources[1], typed.data, "", "train", 0)
