"""Memory that does not suffice is one line that says what to make smaller."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import cli


def status(words, error, monkeypatch, capsys):
    def explode(arguments):
        raise error

    monkeypatch.setattr(cli, "run", explode)
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("mdp: out of memory")
    return stop.value.code, err


ERRORS = [
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.3GiB.\n more\n lines"),
    jax.errors.JaxRuntimeError("INTERNAL: Failed to allocate request: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    MemoryError(),
    MemoryError("std::bad_alloc"),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", ERRORS, ids=[f"{type(error).__name__} {i}" for i, error in enumerate(ERRORS)])
@pytest.mark.parametrize(
    ("part", "advice"), [("pretrain", "config.accumulate"), ("finetune", "config.batch"), ("evaluate", "--mode slide")]
)
def test_it_says_what_to_change(part, advice, error, monkeypatch, capsys):
    code, err = status([part], error, monkeypatch, capsys)
    assert code == 2 and advice in err


def test_genuine_ones(monkeypatch, capsys):
    for allocate in (lambda: np.zeros(2**55, np.uint8), lambda: jnp.zeros(2**50, jnp.uint8).block_until_ready()):
        try:
            allocate()
        except (MemoryError, jax.errors.JaxRuntimeError, ValueError) as error:
            assert status(["pretrain"], error, monkeypatch, capsys)[0] == 2


def test_other_errors_keep_their_tracebacks(monkeypatch):
    def explode(arguments):
        raise RuntimeError("a mistake of this package")

    monkeypatch.setattr(cli, "run", explode)
    with pytest.raises(RuntimeError, match="a mistake of this package"):
        cli.main([])
