"""Being told to stop: noted while there are steps to save, at once elsewhere and the second time."""

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from mdp_jax.errors import PreemptedError
from mdp_jax.training import signals
from mdp_jax.training.signals import STATUS, Stop, StoppedError

# A process that says when it is ready, and then is in one call that lasts, as a long step is. SAVING, COUNT of signals.
LONG_STEP = """
import ctypes, os, signal, sys, time
from mdp_jax.training.signals import Stop
with Stop(exits=True) as stop:
    stop.saving({saving})
    print("ready", flush=True)
    deadline = time.monotonic() + 60
    while not stop.noted and time.monotonic() < deadline:
        time.sleep(0.01)
    print("noted", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])  # as in a library that never returns
    ctypes.CDLL(None).sleep(60)
"""


@pytest.mark.parametrize("exits", [True, False])
@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_the_first_one_is_noted_and_handlers_are_put_back(number, exits):
    before = {each: signal.getsignal(each) for each in STATUS}
    with Stop(exits) as stop:
        stop.saving(True)
        assert not stop.reached()
        stop.check()
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not stop.noted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.reached() and stop.status == STATUS[number]
        with pytest.raises(StoppedError):
            stop.check()
    assert {each: signal.getsignal(each) for each in STATUS} == before


@pytest.mark.parametrize(("saving", "count"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_ends_at_once_elsewhere_and_the_second_time(saving, count, number):
    program = [sys.executable, "-c", LONG_STEP.format(saving=saving)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(count):
            process.send_signal(number)
            if saving and count == 2:
                time.sleep(0.5)
        _, said = process.communicate(timeout=30)
    assert process.returncode == STATUS[number]
    assert "stopped at once" in said and "Traceback" not in said


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("saving", [False, True])
def test_a_program_that_trains_is_not_ended(saving, number, error):
    with Stop() as stop:
        stop.saving(saving)
        with pytest.raises(error):
            for _ in range(1 + saving):
                os.kill(os.getpid(), number)
                time.sleep(0.05)


@pytest.mark.parametrize(("noticed_after", "steps_taken"), [(0, None), (1, 1), (2, 2), (5, 5)])
def test_several_processes_stop_at_the_question_after_the_notice(noticed_after, steps_taken, monkeypatch):
    """JAX's service names the number after the largest one that it was asked with, 1 where nobody has asked yet.

    The question before the steps is the first: where the notice comes before it, no step is taken.
    """
    asked, named = [0], []

    def service(number):
        asked.append(number)
        return [number] == named

    monkeypatch.setattr(signals.multihost_utils, "reached_preemption_sync_point", service)
    monkeypatch.setattr(signals, "_QUESTIONS", itertools.count(1))
    monkeypatch.setattr(signals.jax, "process_count", lambda: 2)
    stop, taken = Stop(), 0
    if noticed_after == 0:
        named.append(max(asked) + 1)
        with pytest.raises(PreemptedError, match=r"before a step was taken; .* in runs/one") as ended:
            stop.before_steps(pathlib.Path("runs/one"))
        assert ended.value.status == 143
        return
    stop.before_steps(pathlib.Path("runs/one"))
    for _ in range(100, 120):  # of a run that goes on
        if len(asked) - 1 == noticed_after:
            named.append(max(asked) + 1)
        taken += 1
        if stop.reached():
            break
    assert taken == steps_taken
