"""mdp_jax/reporting/progress.py."""

import io

from rich.console import Console

from mdp_jax.reporting.progress import Progress, forecast


def plain_lines(times, updates, total, start=0):
    console, clock = Console(file=io.StringIO(), width=40), iter(times)
    with Progress(total, start, console=console, clock=lambda: next(clock)) as progress:
        assert not progress.live
        for step, values in updates:
            progress.update(step, **values)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_every_update_is_one_plain_line():
    values = {"loss": 1.23456, "images_per_second": 85.24, "data_wait_fraction": 0.031}
    lines = plain_lines([0.0, 30.0, 40.0, 50.0], [(10, values), (20, values), (30, {})], total=100)
    assert lines == [
        "step 10/100  loss 1.2346  85.2 images/s  data wait 3%  left 0:04:30",  # 90 steps at 3 s
        "step 20/100  loss 1.2346  85.2 images/s  data wait 3%  left 0:01:20",  # 80 at 1 s: compilation is left out
        "step 30/100  left 0:01:10",
    ]


def test_a_resumed_run_counts_from_its_start():
    lines = plain_lines([0.0, 20.0, 7220.0], [(510, {}), (520, {})], total=540, start=500)
    assert lines == ["step 510/540  left 0:01:00", "step 520/540  left 4:00:00"]


def test_time_left_from_the_end_of_the_compilation():
    console, clock = Console(file=io.StringIO(), width=40), iter([0.0, 400.0, 408.0])
    with Progress(21, console=console, clock=lambda: next(clock)) as progress:
        progress.count_from(1)
        progress.update(5)
    assert console.file.getvalue() == "step 5/21  left 0:00:32\n"  # 16 steps at 2 s


def test_the_last_step_has_no_time_left():
    assert plain_lines([0.0, 5.0], [(10, {"loss": 0.5})], total=10) == ["step 10/10  loss 0.5000"]


def test_a_terminal_of_80_columns_shows_everything_on_one_line():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    clock = iter([0.0, 10.0, 400.0])
    with Progress(100000, 20000, console=console, clock=lambda: next(clock)) as progress:
        assert progress.live
        values = {"loss": 12.51234, "images_per_second": 1285.2, "data_wait_fraction": 0.03}
        progress.update(20050, **values)
        progress.update(20100, **values)
    shown = console.file.getvalue()
    assert "step 20100/100000" in shown
    assert "loss 12.5123  1285.2 images/s  data wait 3%  left 173:07:00" in shown


def test_an_exception_passes_through():
    try:
        with Progress(3, console=Console(file=io.StringIO())):
            raise ValueError("in the loop")
    except ValueError as error:
        assert str(error) == "in the loop"
    else:
        raise AssertionError


def test_forecast():
    assert forecast(0.5, 300) == ["0.5 s a step, 300 steps left: about 2 minutes, validation aside"]
    assert forecast(1.0, 40) == ["1 s a step, 40 steps left: about 40 seconds, validation aside"]
    assert forecast(2.0, 9000) == ["2 s a step, 9000 steps left: about 5.0 hours, validation aside"]
    line, warning = forecast(30.0, 20_000)  # 600,000 s
    assert line.endswith("about 6.9 days, validation aside")
    assert warning.startswith("warning: this run will take 6.9 days") and "config.data.crop, config.batch" in warning
