"""The checkpoint of the best validation: what replaces it, and what stays when something goes wrong."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.storage import checkpoints
from mdp_jax.storage.checkpoints import BEST, Checkpoints
from mdp_jax.training.best import Best


def state(step):
    return {"step": jnp.int32(step), "params": {"kernel": jnp.arange(500.0) * step}}


def kept(workdir):
    return sorted(int(path.name) for path in (workdir / BEST).iterdir())


def offered(workdir, *scores):
    """Offers (step, score) one after the other, as one process; returns which were taken."""
    best = Best(workdir)
    taken = [best.offer(step, state(step), score, {"next_batch": step}) for step, score in scores]
    best.close()
    return taken


def test_only_a_greater_score_replaces_it(tmp_path):
    assert offered(tmp_path, (2, 30.0), (4, 30.0), (6, None), (8, 31.5), (10, 31.0)) == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert kept(tmp_path) == [8]
    found = checkpoints.newest_meta(tmp_path, BEST)
    assert (found["step"], found["mIoU"], found["next_batch"]) == (8, 31.5, 8)


def test_another_process_has_the_same_score_to_beat(tmp_path):
    score = 100 / 3  # that no short decimal is
    offered(tmp_path, (4, score))
    again = Best(tmp_path)
    assert (again.there, again.step, again.score) == (True, 4, score)
    assert offered(tmp_path, (4, score), (6, np.nextafter(score, 0.0))) == [False, False]
    assert offered(tmp_path, (8, float(np.nextafter(score, 99.0)))) == [True]
    assert kept(tmp_path) == [8]


def test_a_run_without_a_score_makes_no_folder(tmp_path):
    assert offered(tmp_path, (2, None)) == [False]
    assert not (tmp_path / BEST).exists() and not Best(tmp_path).there


def test_a_step_before_the_best_may_be_better(tmp_path):
    """As where a run goes on from an earlier step on other devices."""
    offered(tmp_path, (8, 40.0))
    assert offered(tmp_path, (6, 41.0)) == [True]
    assert kept(tmp_path) == [6]


def damage(folder):
    for file in (folder / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_damaged_one_is_skipped_and_replaced(tmp_path, capsys):
    newest = Checkpoints(tmp_path, keep=2)
    newest.save(4, state(4), {})
    newest.close()
    offered(tmp_path, (2, 30.0))
    damage(tmp_path / BEST / "2")
    assert checkpoints.choose(tmp_path).step == 4
    with pytest.raises(
        UserError, match=r"best: none of its checkpoints can be read; --step last is the newest \(step 4"
    ):
        checkpoints.choose(tmp_path, "best")
    with pytest.raises(UserError, match=r"best/2: cannot be read .*; expected another --step"):
        checkpoints.choose(tmp_path, 2)
    assert not Best(tmp_path).there
    assert offered(tmp_path, (2, 29.0)) == [True]
    assert checkpoints.choose(tmp_path).step == 2
    assert "skipped" in capsys.readouterr().out


def test_which_checkpoint_is_taken(tmp_path):
    newest = Checkpoints(tmp_path, keep=2)
    for step in (4, 6):
        newest.save(step, state(step), {})
    newest.close()
    with pytest.raises(UserError, match=r"no best checkpoint in it; .*; --step last is the newest \(step 6\)"):
        checkpoints.choose(tmp_path, "best")
    assert checkpoints.choose(tmp_path).step == 6
    offered(tmp_path, (2, 30.0))
    found = {which: checkpoints.choose(tmp_path, which) for which in ("", "best", "last", "2", 4, "6")}
    assert {which: (one.step, one.best) for which, one in found.items()} == {
        "": (2, True),
        "best": (2, True),
        "last": (6, False),
        "2": (2, True),
        4: (4, False),
        "6": (6, False),
    }
    assert all(one.newest == 6 for one in found.values())
    assert all(int(one.saved.state["step"]) == one.step for one in found.values())
    assert int(checkpoints.load(tmp_path).state["step"]) == 6  # what a run goes on from
    message = (
        r"--step 5: no checkpoint of this step in .*; expected one of those that were kept \(4, 6 and the best, 2\)"
    )
    with pytest.raises(UserError, match=message):
        checkpoints.choose(tmp_path, 5)


def test_the_one_before_stays_until_the_new_one_is_proven(tmp_path, monkeypatch):
    best = Best(tmp_path)
    best.offer(2, state(2), 30.0, {})
    best.settle()

    def unreadable(manager, step, where):
        raise ValueError("a flipped bit")

    best.offer(4, state(4), 31.0, {})
    monkeypatch.setattr(checkpoints, "read_step", unreadable)
    with pytest.raises(UserError, match=r"best/4: was written and cannot be read back \(a flipped bit\)"):
        best.settle()
    monkeypatch.undo()
    assert kept(tmp_path) == [2, 4]
