"""`mdp edit-bank`: sets and classes come and go, everything else stays bit for bit, and training goes on."""

import dataclasses
import re

import numpy as np
import pytest

import mdp_jax
from mdp_jax import cli, config, configs
from mdp_jax.commands import edit_bank
from mdp_jax.data import label_space, sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import side_by_side
from mdp_jax.evaluation.discriminant import shares_of_cells
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting import runs
from mdp_jax.storage import checkpoints
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training import editing, workdir
from mdp_jax.training.editing import Edits, _edited_config, _moves, edit, edited_classes
from mdp_jax.training.pretraining import pretrain
from tests import earlier, tiny

BANK = ("memory/bank/vectors", "memory/bank/images_seen")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(earlier.unpacked(tmp_path))
    return tmp_path


def saved(name):
    found = checkpoints.load(name)
    return {path: np.asarray(leaf) for path, leaf in leaf_names(found.state).items()}, found.meta


def space(name):
    return LabelSpace.load(f"{name}/label_space.json")


def row(leaves, name, dataset, label):
    """The rows of a class in all leaves that have some."""
    labels = dict(space(name).datasets)
    i = dict(zip(space(name).global_names(), range(99), strict=False))[f"{dataset}/{label}"]
    assert label in labels[dataset]
    return {path: leaves[path][i] for path in BANK}


def of_classes(objective):
    """Whether a path has rows, by what the objective declares."""
    leaves = OBJECTIVES[objective].class_rows.leaves
    return lambda path: any(re.fullmatch(pattern, path) for pattern, _ in leaves)


@pytest.mark.usefixtures("plain_pages")
@pytest.mark.parametrize(("name", "objective"), [("pretrained", "mdp"), ("multi_head", "multi_head")])
def test_a_set_that_is_dropped_and_added_again(folder, name, objective, capsys):
    """The other rows and the rest of the checkpoint are bit-equal, and training goes on."""
    before, meta = saved(name)
    harbor = len(dict(space(name).datasets)["harbor"])
    dropped = edit(name, "dropped", Edits(drop=[("town",)]))
    assert dropped.kept == harbor and len(dropped.gone) == space(name).num_classes - harbor and not dropped.unseen
    again = earlier.config_of(name)
    config.apply_overrides(again, [("steps", "6")])
    assert runs.gone_sets(runs.read_edited("dropped"), ["harbor"])[0]["name"] == "town"
    added = edit("dropped", "added", config=again)
    assert added.kept == harbor and len(added.unseen) == space(name).num_classes - harbor and not added.gone
    after, new_meta = saved("added")
    assert space("added").rows() == space(name).rows()
    has_rows = of_classes(objective)
    assert before.keys() == after.keys() and any(map(has_rows, before))
    for path, leaf in before.items():
        assert after[path].dtype == leaf.dtype
        if has_rows(path):
            axis = [a for a, size in enumerate(leaf.shape) if size == space(name).num_classes][-1]
            first = np.arange(harbor)
            np.testing.assert_array_equal(after[path].take(first, axis), leaf.take(first, axis))
            if "trace" in path or "bank" in path:
                assert not after[path].take(np.arange(harbor, leaf.shape[axis]), axis).any()
        else:
            np.testing.assert_array_equal(after[path], leaf)
    assert new_meta["next_batch"] == meta["next_batch"] == 4
    assert new_meta["ledger"][0] == meta["ledger"][0] and not any(new_meta["ledger"][1])
    if name == "multi_head":  # which goes on in the same way
        return
    require_named_sets(folder, capsys)
    pretrain(again, "added")
    said = capsys.readouterr().err
    rows, (end, _) = read_metrics("added"), saved("added")
    assert [r["step"] for r in rows][-1] == 6 and end["step"] == 6 and np.isfinite(rows[-1]["loss"])
    assert rows[-1]["dataset_images"][0] > meta["ledger"][0][0]
    dead = [
        n > 0 and e >= 1 for n, e in zip(rows[-1]["dataset_unseen_classes"], rows[-1]["dataset_epochs"], strict=True)
    ]
    assert ("mdp: warning: step 6: never seen in a whole epoch" in said) == any(dead)


def require_named_sets(folder, capsys):
    """The pages and tables of `dropped` name the set that is gone; those of `added` have it again."""
    before = {"source": "step 4 of the workdir pretrained", "trained on": [("harbor", 10), ("town", 14)]}
    found = runs.read_edited("dropped")
    assert found["source"] == before["source"]
    assert [(row["name"], row["classes"]) for row in found["trained on"]] == before["trained on"]
    capsys.readouterr()
    for name, gone in (("dropped", True), ("added", False)):
        assert cli.run(["inspect", "--checkpoint", name, "--map", "none", "--pixels", "0"]) == 0
        said = "town; the weights were trained on this set before"
        assert (
            (said in capsys.readouterr().out) == gone == (said in (folder / name / "inspect/inspect.html").read_text())
        )
        row = next(row for row in side_by_side.runs_table(side_by_side.read([name])).rows)
        assert row[2] == ("harbor; before mdp edit-bank also town" if gone else "harbor, town")
        assert row[3].endswith(f"of the workdir {'pretrained' if gone else 'dropped'}, changed by mdp edit-bank")
    (section,) = runs.origins_section("added")
    assert [row[:2] for row in section.tables[0].rows] == [["harbor", 10], ["town", 14]]


def test_a_set_of_which_no_photo_was_used_is_not_named(folder):
    typed, found = configs.typed_pretrain(earlier.config_of("pretrained")), saved("pretrained")[1]
    counts = [[0] * len(found["ledger"][0]), found["ledger"][1]]
    assert [
        row["name"] for row in editing._trained_on("pretrained", typed, space("pretrained"), {"ledger": counts})
    ] == ["town"]


@pytest.mark.parametrize(("join", "expected"), [(sum, [[9, 0, 10]]), (max, [[9, 0, 7]])])
def test_counts_and_last_steps_of_merged_classes(join, expected):
    old = configs.typed_pretrain(tiny.pretrain_config())
    before = LabelSpace((("harbor", ("a", "b", "c")), ("town", ("d",))))
    classes = {"harbor": {"c": ("c",), "ab": ("a", "b")}}
    rows = [[9, 3, 7, 0], [5, 5, 0, 0]]
    assert editing._ledger(rows, join, old, before, LabelSpace((("harbor", ("c", "ab")),)), classes) == expected


def test_each_edit_may_be_given_several_times(monkeypatch):
    found = []

    def noted(checkpoint, workdir, edits, *rest):
        found.append(edits)
        raise UserError("no more is wanted")

    monkeypatch.setattr(edit_bank, "edit", noted)
    words = "--drop a x --drop b --rename a y Y --rename a z Z --merge a v p q --merge a w r s --order a Y --order a Z"
    words += " --order_sets c --order_sets d e"
    with pytest.raises(UserError, match="no more is wanted"):
        cli.run(["edit-bank", "--checkpoint", "pretrained", "--workdir", "new", *words.split()])
    (edits,) = found
    assert edits == Edits(
        [["a", "x"], ["b"]],
        [["a", "y", "Y"], ["a", "z", "Z"]],
        [["a", "v", "p", "q"], ["a", "w", "r", "s"]],
        [["a", "Y"], ["a", "Z"]],
        ["c", "d", "e"],
    )


def test_classes_are_renamed_merged_and_put_in_another_order(folder, capsys):
    before, meta = saved("pretrained")
    harbor, town = (list(labels) for _, labels in space("pretrained").datasets)
    words = ["--rename", "harbor", harbor[0], "sky high", "--merge", "harbor", "wet", harbor[1], harbor[2]]
    words += ["--drop", "town", town[1], "--order", "town", town[-1], "--order_sets", "town"]
    arguments = ["edit-bank", "--checkpoint", "pretrained", "--workdir", "new", *words, "--config.steps=6"]
    assert cli.run(arguments) == 0
    out = capsys.readouterr().out
    assert "made of several: 1 (harbor/wet)" in out and f"gone: 1 (town/{town[1]})" in out
    assert "step 4 of 6; mdp pretrain --config new/config.py --workdir new goes on" in out
    after, new_meta = saved("new")
    left = [label for label in town if label != town[1]]
    assert space("new").datasets == (
        ("town", (left[-1], *left[:-1])),
        ("harbor", ("sky high", "wet", *harbor[3:])),
    )
    pairs = [(("town", label), ("town", label)) for label in left]
    pairs += [(("harbor", label), ("harbor", label)) for label in harbor[3:]]
    for old, new in [*pairs, (("harbor", harbor[0]), ("harbor", "sky high"))]:
        for path in BANK:
            np.testing.assert_array_equal(
                row(after, "new", *new)[path], row(before, "pretrained", *old)[path], err_msg=f"{old} {path}"
            )
    wet, (one, two) = row(after, "new", "harbor", "wet"), (row(before, "pretrained", "harbor", x) for x in harbor[1:3])
    weights = [float(x["memory/bank/images_seen"]) for x in (one, two)]
    mean = weights[0] * one["memory/bank/vectors"] + weights[1] * two["memory/bank/vectors"]
    np.testing.assert_allclose(wet["memory/bank/vectors"], mean / np.linalg.norm(mean), atol=1e-6)
    assert wet["memory/bank/images_seen"] == sum(weights)
    for path in before.keys() - set(BANK):
        np.testing.assert_array_equal(after[path], before[path])
    old_pixels = {
        name: dict(zip(labels, counts[1:], strict=False))
        for (name, labels), counts in zip(space("pretrained").datasets, meta["ledger"], strict=True)
    }
    assert new_meta["ledger"][1][2] == old_pixels["harbor"][harbor[1]] + old_pixels["harbor"][harbor[2]]
    assert new_meta["ledger"][0][1] == old_pixels["town"][left[-1]]
    # What mdp pretrain asks of a folder before it goes on there.
    goes_on = config.load("new/config.py")
    typed = configs.typed(goes_on)
    opened = [sources.open_source(source, typed.data, "", "train", 0) for source in typed.sources]
    workdir.require_free_or_same("new", goes_on, label_space.build(opened))
    net = mdp_jax.load("new", dataset="harbor")
    assert net.classes[1] == "wet"
    # Once more, on classes that are groups already.
    edit("new", "more", Edits(drop=[("harbor", "wet")], rename=[("harbor", "sky high", harbor[0])]))
    assert space("more").datasets[1][1] == (harbor[0], *harbor[3:])
    source = config.load_json(folder / "more" / "config.json").sources[1]
    assert set(source.drop_classes) == {harbor[1], harbor[2]}


def test_a_new_set_gets_prototypes_from_photos(folder):
    new = earlier.config_of("pretrained")
    with new.unlocked():
        new.sources = (*new.sources, tiny.finetune_config().dataset)
    found = edit("pretrained", "new", config=new, adopt=["valley"])
    assert found.adopted and not set(found.adopted) & set(found.unseen)
    before, after = saved("pretrained")[0], saved("new")[0]
    net, count = mdp_jax.load("new"), space("pretrained").num_classes
    for path in BANK:
        np.testing.assert_array_equal(after[path][:count], before[path])
    # A loop over the photos: unit mean of each class in each photo, then the unit mean of these.
    typed = configs.typed(new)
    source = sources.open_source(typed.sources[2], typed.data, "", "train", 0, scored=True)
    sums, photos = np.zeros((len(source.classes), 8)), np.zeros(len(source.classes))
    for i in range(len(source)):
        vectors = np.asarray(net.embed(source[i]["image"]), np.float64)
        shares = shares_of_cells(source[i]["label"], vectors.shape[:2], len(source.classes))
        means = shares.T @ vectors.reshape(-1, 8)
        seen = shares.any(axis=0)
        sums[seen] += means[seen] / np.linalg.norm(means[seen], axis=1, keepdims=True)
        photos += seen
    expected = sums[photos > 0] / np.linalg.norm(sums[photos > 0], axis=1, keepdims=True)
    np.testing.assert_allclose(after[BANK[0]][count:][photos > 0], expected, atol=1e-5)
    np.testing.assert_array_equal(after[BANK[1]][count:], photos)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"edits": Edits(drop=[("city",)])}, "--drop city: no set 'city'; expected one of harbor, town"),
        ({"edits": Edits(drop=[("town", "moon")])}, "--drop town moon: no class 'moon'; expected one of "),
        ({"edits": Edits(drop=[("town",), ("harbor",)])}, "--drop: leaves no class of .*pretrained; expected some"),
        ({"edits": Edits(rename=[("harbor", "air", "sea")])}, "there is a class 'sea' already"),
        ({"edits": Edits(merge=[("harbor", "x", "air")])}, "--merge harbor x air: expected a set, the new name, and"),
        ({"edits": Edits(merge=[("harbor",)])}, "--merge harbor: expected a set, the new name, and at least two"),
        ({"edits": Edits(merge=[("harbor", "", "air", "sea")])}, "the name ''; expected the name of a class, in one"),
        ({"edits": Edits(rename=[("harbor", "air", "a\nb")])}, r"the name 'a\\nb'; expected the name of a class"),
        ({"edits": Edits(order=[("harbor",)])}, "--order harbor: expected classes of the set too"),
        ({"edits": Edits(order_sets=["city"])}, "--order_sets city: no set 'city'"),
        ({"checkpoint": "finetuned"}, "the config of mdp finetune; expected one of mdp pretrain"),
        ({"checkpoint": "nowhere"}, r"nowhere/config\.json: missing; expected the workdir"),
        ({"folder": "finetuned"}, "--workdir finetuned: holds a run; expected a new folder"),
        ({"adopt": ["valley"]}, "--adopt valley: expected --config too"),
        ({"config": tiny.pretrain_config()}, r"was trained with another config\.model; expected the same"),
        ({"overrides": [("objective", "prototype"), ("mixing.region", "0.0"), ("mixing.pixel", "0.0")]},
         r"was trained with another config\.objective='mdp'"),
        ({"overrides": [("method.class_frequencies", "True")]},
         r"method\.class_frequencies=True: pretrained was trained with False; expected the same"),
        ({"config": earlier.config_of("pretrained"), "adopt": ["city"]}, "--adopt city: no such set with labels"),
        ({"config": earlier.config_of("pretrained"), "adopt": ["town"]}, "--adopt town: no class of it is new"),
        ({"config": earlier.config_of("multi_head"), "checkpoint": "multi_head", "adopt": ["town"]},
         "has no rows that photos give"),
    ],
)  # fmt: skip
def test_what_cannot_be(folder, values, message):
    arguments = {"checkpoint": "pretrained", "folder": "new"} | values
    with pytest.raises(UserError, match=message):
        edit(**arguments)
    assert not (folder / "new").exists()


def test_another_optimizer_is_refused_before_photos_are_read(folder, monkeypatch):
    monkeypatch.setattr(editing, "statistics_of", lambda *_: pytest.fail("photos were read"))
    new = earlier.config_of("pretrained")
    with new.unlocked():
        new.sources = (*new.sources, tiny.finetune_config().dataset)
    with pytest.raises(UserError, match="is new; expected the settings of that run"):
        edit("pretrained", "new", config=new, adopt=["valley"], overrides=[("optim.name", "adamw")])
    assert not (folder / "new").exists()


def test_a_label_space_of_another_run(folder):
    file = folder / "pretrained" / "label_space.json"
    file.write_text(file.read_text().replace('"air"', '"moon"'))
    with pytest.raises(UserError, match=r"checkpoints: class 0 of dataset 'harbor' is 'air', expected 'moon'"):
        edit("pretrained", "new", Edits(drop=[("town",)]))


def test_the_command_that_goes_on_can_be_pasted(folder, capsys):
    assert cli.run(["edit-bank", "--checkpoint", "pretrained", "--workdir", "a new", "--config.steps=6"]) == 0
    assert "; mdp pretrain --config 'a new/config.py' --workdir 'a new' goes on" in capsys.readouterr().out


def test_stages_and_mixture_follow_their_sets():
    space = LabelSpace((("harbor", ("air", "sea")), ("photos", ()), ("town", ("sky",))))
    made = tiny.pretrain_config(stages="(('harbor', 'photos'), ('town',))", mixture_schedule="((0, 4, 5, 6),)")
    harbor, town = made.sources
    with made.unlocked():
        made.sources = (harbor, config.from_dict({**harbor.to_dict(), "name": "photos"}), town)
        made.mixture_weights = (1.0, 2.0, 3.0)
    turned = _edited_config(made, space, edited_classes(space, Edits(order_sets=["town"])))
    assert [source.name for source in turned.sources] == ["town", "harbor", "photos"]
    assert turned.mixture_weights == (3.0, 1.0, 2.0) and turned.mixture_schedule == ((0, 6, 4, 5),)
    less = _edited_config(made, space, edited_classes(space, Edits(drop=[("town",), ("photos",), ("harbor", "sea")])))
    assert less.stages == (("harbor",),) and less.mixture_weights == (1.0,) and less.mixture_schedule == ((0, 4),)
    assert less.sources[0].drop_classes == ("sea",) and less.sources[0].class_groups == ()


def test_rows_of_merged_label_spaces_by_hand():
    old = LabelSpace((("one", ("sky", "sea")), ("two", ("Sky", "tree"))), "merged")
    assert old.global_ids == ((0, 1), (0, 2))
    gone = edited_classes(old, Edits(drop=[("one",)]))
    assert _moves(old, LabelSpace((("two", ("Sky", "tree")),), "merged"), gone) == [[0], [2]]
    one = edited_classes(old, Edits(rename=[("one", "sea", "tree")]))
    new = LabelSpace((("one", ("sky", "tree")), ("two", ("Sky", "tree")), ("three", ("moon",))), "merged")
    assert _moves(old, new, one) == [[0], [1, 2], []]


def test_nothing_to_edit(folder):
    with pytest.raises(UserError, match="nothing to edit; expected --config"):
        cli.run(["edit-bank", "--checkpoint", "pretrained", "--workdir", "new"])


def test_an_objective_that_does_not_say_where_its_classes_are(folder, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "mdp", dataclasses.replace(OBJECTIVES["mdp"], class_rows=None))
    with pytest.raises(UserError, match="'mdp' does not say how its classes change; expected the same classes"):
        edit("pretrained", "new", Edits(drop=[("town",)]))
    assert not (folder / "new").exists()
