"""The account of what a run took from each dataset."""

import contextlib
import itertools
import types

import numpy as np

from mdp_jax import configs as base
from mdp_jax.data.batches.bad_images import SkippingSource
from mdp_jax.data.batches.pipeline import pretrain_batches
from mdp_jax.data.label_space import LabelSpace, build
from mdp_jax.reporting.tables import text_of
from mdp_jax.training import pretraining
from mdp_jax.training.continuing import Continued
from mdp_jax.training.ledger import Ledger, grown
from tests import tiny
from tests.data.fixtures import MemorySource, numbered_source

SPACE = LabelSpace((("a", ("sky", "road", "tree")), ("b", ("sky", "cow"))))
SOURCES = [numbered_source("a", 3, 4), numbered_source("b", 2, 8)]
# Three photos of 2 x 2 pixels: dataset a, with an ignored pixel; b; a, ignored altogether.
BATCH = {
    "dataset": np.int32([0, 1, 0]),
    "label": np.int16([[[0, 0], [2, -1]], [[4, 4], [4, 4]], [[-1, -1], [-1, -1]]]),
}


def test_counts_by_hand():
    ledger = Ledger(SPACE, SOURCES)
    ledger.add(BATCH)
    totals = ledger.totals()
    assert totals.dtype == np.int64
    np.testing.assert_array_equal(totals, [[2, 2, 0, 1], [1, 0, 4, 0]])
    found = {name: value.tolist() for name, value in ledger.metrics(totals).items()}
    assert found == {
        "dataset_images": [2, 1],
        "dataset_epochs": [0.5, 0.125],
        "dataset_valid_pixels": [3, 4],
        "dataset_unseen_classes": [1, 1],
        "dataset_bad_images": [0, 0],
    }
    assert ledger.unseen(totals) == [["road"], ["sky"]]
    ledger.add(BATCH)
    np.testing.assert_array_equal(ledger.totals(), 2 * totals)
    np.testing.assert_array_equal(totals, [[2, 2, 0, 1], [1, 0, 4, 0]])  # what was given out does not change


def test_the_last_step_that_a_class_was_seen_in():
    """Of datasets, then of their classes. A run goes on from step 7, once with what it knew and once without."""
    without_sky = {name: values[:2] for name, values in BATCH.items()}
    without_sky["label"] = np.int16([[[2, 2], [2, -1]], [[-1, -1], [-1, -1]]])
    ledger = Ledger(SPACE, SOURCES)
    for batch in (BATCH, without_sky, without_sky):
        ledger.add(batch)
    assert not ledger.last_seen().any()  # until the processes' are joined
    ledger.add_up()
    before = ledger.last_seen().tolist()
    assert before == [[3, 1, 0, 3], [3, 0, 1, 0]]
    for known, expected in ((before, [[8, 1, 0, 8], [8, 0, 1, 0]]), (None, [[8, 0, 0, 8], [8, 0, 0, 0]])):
        ledger = Ledger(SPACE, SOURCES, ledger.totals(), known, step=7)
        ledger.add(without_sky)
        ledger.add_up()
        assert ledger.last_seen().tolist() == expected


def test_merged_classes_count_for_the_dataset_of_the_photo():
    """Sky is class 0 of both datasets, the cow 3; the third dataset is unlabelled."""
    space = LabelSpace((*SPACE.datasets, ("c", ())), "merged")
    ledger = Ledger(space, [*SOURCES, MemorySource("c", (), [None])])
    batch = {
        "dataset": np.int32([0, 1, 2]),
        "label": np.int16([[[0, 0], [2, -1]], [[0, 3], [3, 3]], [[-1, -1], [-1, -1]]]),
    }
    ledger.add(batch)
    np.testing.assert_array_equal(ledger.totals(), [[1, 2, 0, 1], [1, 1, 3, 0], [1, 0, 0, 0]])
    assert ledger.unseen(ledger.totals()) == [["road"], [], []]
    assert ledger.metrics(ledger.totals())["dataset_valid_pixels"].tolist() == [3, 4, 0]


def test_sets_without_labels_come_and_go_where_a_run_goes_on_from_another(tmp_path, monkeypatch):
    """The other run had photos without labels between the two sets, this one has others before them."""
    names = [{"name": name} for name in ("a", "photos", "b")]
    counts = [[2, 2, 0, 1], [7, 0, 0, 0], [1, 0, 4, 0]]
    meta = {"config": {"sources": names}, "ledger": counts, "last_seen": counts, "next_batch": 3}
    monkeypatch.setattr(pretraining, "continue_from", lambda *_: Continued(None, {"source": "a workdir"}, meta))
    program = types.SimpleNamespace(make=dict)
    for before in ((), (("others", ()),)):
        space = LabelSpace((*before, *SPACE.datasets))
        config = tiny.pretrain_config(continue_from="a workdir")
        taken = pretraining._taken(config, tmp_path, program, space, 5)
        sources = [*(MemorySource(name, (), [None]) for name, _ in before), *SOURCES]
        ledger = Ledger(space, sources, taken.meta["ledger"], taken.meta["last_seen"], step=3)
        expected = [[0, 0, 0, 0]] * len(before) + [[2, 2, 0, 1], [1, 0, 4, 0]]
        assert ledger.totals().tolist() == ledger.last_seen().tolist() == expected
        assert taken.meta["next_batch"] == 3


def test_a_set_that_nothing_was_counted_of():
    space = LabelSpace((*SPACE.datasets, ("c", ("a", "b", "c", "d"))))
    before = [[2, 2, 0, 1], [1, 0, 4, 0]]
    expected = [[2, 2, 0, 1, 0], [1, 0, 4, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(grown(before, space), expected)
    ledger = Ledger(space, [*SOURCES, numbered_source("c", 4, 2)], before)
    np.testing.assert_array_equal(ledger.totals(), expected)
    np.testing.assert_array_equal(grown(expected, space), expected)
    # label_space.json has no set without labels, and its row of the ledger stays where it is.
    every = space.of_sources(["a", "none", "b", "c"])
    assert every.rows() == space.rows()
    rows = [[2, 2, 0, 1], [7, 0, 0, 0], [1, 0, 4, 0]]
    assert grown(rows, every).tolist() == [[2, 2, 0, 1, 0], [7, 0, 0, 0, 0], [1, 0, 4, 0, 0], [0] * 5]


def test_counts_stay_exact_beyond_float32_and_go_on_from_lists():
    before = [[2**40 + 1, 2**50 + 1, 0, 0], [1, 0, 0, 0]]
    ledger = Ledger(SPACE, SOURCES, before)
    ledger.add(BATCH)
    np.testing.assert_array_equal(ledger.totals(), [[2**40 + 3, 2**50 + 3, 0, 1], [2, 0, 4, 0]])
    assert ledger.metrics(ledger.totals())["dataset_valid_pixels"].tolist() == [2**50 + 4, 4]


def _batches(process_index=0, process_count=1, start=0):
    config = base.pretrain()
    config.data.crop, config.batch, config.data.threads = (8, 8), 8, 1
    rng = np.random.default_rng(0)
    sources = [
        MemorySource(name, classes, [(np.zeros((9, 9, 3), np.uint8), label) for label in _labels(rng, len(classes))])
        for name, classes in SPACE.datasets
    ]
    batches = pretrain_batches(
        config,
        sources,
        build(sources),
        start_batch=start,
        process_index=process_index,
        process_count=process_count,
    )
    with contextlib.closing(batches):
        yield from itertools.islice(batches, 6 - start)


def _labels(rng: np.random.Generator, classes: int):
    return rng.integers(-1, classes - 1, (3, 9, 9)).astype(np.int16)  # the last class is in no photo


def test_processes_add_up_and_a_resumed_run_goes_on():
    whole = Ledger(SPACE, SOURCES)
    expected = np.zeros((2, 4), np.int64)
    for batch in _batches():
        whole.add(batch)
        for dataset, label in zip(batch["dataset"], batch["label"], strict=True):
            expected[dataset, 0] += 1
            for row, column in np.ndindex(label.shape):
                if label[row, column] >= 0:
                    expected[dataset, 1 + label[row, column] - 3 * dataset] += 1
    np.testing.assert_array_equal(whole.totals(), expected)
    assert whole.unseen(whole.totals()) == [["tree"], ["cow"]]
    parts = [Ledger(SPACE, SOURCES) for _ in range(2)]
    for index, part in enumerate(parts):
        for batch in itertools.islice(_batches(index, 2), 4):
            part.add(batch)
    before = sum(part.totals() for part in parts).tolist()  # as a checkpoint after four steps keeps them
    parts = [Ledger(SPACE, SOURCES, before), Ledger(SPACE, SOURCES)]  # given to one process
    for index, part in enumerate(parts):
        for batch in _batches(index, 2, start=4):
            part.add(batch)
    np.testing.assert_array_equal(sum(part.totals() for part in parts), expected)


def test_table():
    skipping = SkippingSource(SOURCES[1], 0.5)
    skipping.bad[3] = "b-3 is truncated"
    ledger = Ledger(SPACE, [SOURCES[0], skipping])
    ledger.add(BATCH)
    rows = [
        {"step": 1, "dataset_loss": [3.0, 2.0], "data_wait_fraction": 0.25},
        {"step": 2, "dataset_loss": [2.5, None], "data_wait_fraction": 0.05},
        {"step": 2, "val_mIoU": 1.0},
    ]
    table = ledger.table(ledger.totals(), rows)
    shown = [[text_of(cell) for cell in row] for row in [table.columns, *table.rows]]
    assert shown == [
        ["dataset", "images", "epochs", "labelled pixels", "last loss", "classes never seen", "bad photos"],
        ["a", "2", "0.50", "3", "2.50", "road", "0"],
        ["b", "1", "0.12", "4", "–", "sky", "1"],
    ]
    assert table.caption == "Waiting for data: 15.0 % of the time"


def test_table_before_anything_was_logged_and_with_many_unseen_classes():
    space = LabelSpace((("a", tuple(f"class{i}" for i in range(14))),))
    ledger = Ledger(space, [numbered_source("a", 14, 4)])
    table = ledger.table(ledger.totals(), [])
    assert table.rows[0][4:6] == (None, ", ".join(f"class{i}" for i in range(10)) + " and 4 more")
    ledger.add({"dataset": np.int32([0]), "label": np.arange(14, dtype=np.int16).reshape(1, 2, 7)})
    assert ledger.table(ledger.totals(), []).rows[0][5] == "none"
