"""What a run writes while it goes, and that it stops on values that are not finite."""

import json

import jax.numpy as jnp
import pytest

from mdp_jax.errors import NonFiniteError
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training.monitor import Monitor


def metrics(loss, norm=1.0, each=(1.0, float("nan")), seen=3):
    return {
        "loss": jnp.float32(loss),
        "gradient_norm": jnp.float32(norm),
        "dataset_loss": jnp.asarray(each),
        "classes_seen": jnp.int32(seen),
    }


def test_means_counts_and_gaps(tmp_path):
    with Monitor(tmp_path, 0, 4, 8, schedule=lambda step: 0.1 * step) as monitor:
        monitor.record(1, metrics(1.0, each=(1.0, float("nan")), seen=3))
        monitor.record(2, metrics(2.0, each=(3.0, float("nan")), seen=5))
        monitor.flush()
        monitor.record(3, metrics(7.0, each=(float("nan"), 4.0), seen=6))
        monitor.flush()
    first, second = read_metrics(tmp_path)
    assert (first["step"], first["loss"], first["classes_seen"]) == (2, 1.5, 5)
    assert first["dataset_loss"] == [2.0, None]
    assert second["dataset_loss"] == [None, 4.0]
    assert (first["lr"], second["lr"]) == (0.1, 0.2)
    assert first["images_per_second"] > 0
    assert 0 <= first["data_wait_fraction"] <= 1
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_the_speed_is_that_without_the_first_step(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("mdp_jax.training.monitor.time.perf_counter", lambda: now[0])
    with Monitor(tmp_path, 0, 4, 8, schedule=lambda step: 0.1 * step) as monitor:
        for step, waited, done in ((1, 60, 100), (2, 0, 104), (3, 2, 108)):
            monitor.waited(waited)
            now[0] = done
            monitor.record(step, metrics(1.0))
        monitor.flush()
        now[0] = 110
        monitor.record(4, metrics(1.0))
        monitor.flush()
    first, second = read_metrics(tmp_path)
    assert (first["images_per_second"], first["data_wait_fraction"]) == (2.0, 0.25)  # 16 images in 8 s, 2 s waited
    assert (second["images_per_second"], second["data_wait_fraction"]) == (4.0, 0.0)


@pytest.mark.parametrize(
    ("name", "row"), [("loss", metrics(float("nan"))), ("gradient_norm", metrics(1.0, float("inf")))]
)
def test_not_finite_names_step_and_metric(tmp_path, name, row):
    with Monitor(tmp_path, 0, 4, 8, schedule=lambda step: 0.1 * step) as monitor:
        monitor.record(1, metrics(1.0))
        monitor.record(2, row)
        with pytest.raises(NonFiniteError, match=f"step 2: {name} is"):
            monitor.flush()
    assert read_metrics(tmp_path) == []


def test_going_on_drops_rows_that_come_again(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (2, 4, 6)) + '{"st')
    with Monitor(tmp_path, 4, 8, 8, schedule=lambda step: 0.1):
        pass
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4]


def test_the_speed_is_said_after_the_first_steps_once(tmp_path, capsys):
    with Monitor(tmp_path, 10, 30, 8, schedule=lambda step: 0.1) as monitor:
        for step in range(11, 20):
            monitor.record(step, metrics(1.0))
            said = capsys.readouterr().err
            assert ("s a step, 16 steps left" in said) == (step == 14), step


def test_a_slow_step_is_said_at_once(tmp_path, capsys, monkeypatch):
    times = iter(range(0, 100_000, 1000))
    monkeypatch.setattr("mdp_jax.training.monitor.time.perf_counter", lambda: next(times))
    with Monitor(tmp_path, 0, 900, 8, schedule=lambda step: 0.1) as monitor:
        monitor.record(1, metrics(1.0))
        monitor.record(2, metrics(1.0))
    said = capsys.readouterr().err
    assert "1e+03 s a step, 898 steps left: about 10.4 days" in said and "warning: this run will take 10.4 days" in said


def test_what_may_be_wrong_is_said_once(tmp_path, capsys):
    def warn(values, step):
        return {"low": f"loss {float(values['loss']):g}"} | ({"late": "late"} if step > 1 else {})

    with Monitor(tmp_path, 0, 4, 8, schedule=lambda step: 0.1 * step) as monitor:
        for step in (1, 2, 3):
            monitor.record(step, metrics(float(step)))
            monitor.flush({}, warn)
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert lines == ["mdp: warning: step 1: loss 1", "mdp: warning: step 2: late"]
