"""SIGTERM is noted while a run asks for it, and kills as before once it does not."""

import os
import signal

from mdp_jax.training.preemption import Preemption


def test_sigterm_is_noted_and_the_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert not preemption.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.reached(2)
    assert signal.getsignal(signal.SIGTERM) is before
