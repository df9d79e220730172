"""Where the time of profiled steps went, by hand; ranges that are refused; scopes that a profile shows."""

import re

import jax
import pytest

from mdp_jax.cli import run as mdp
from mdp_jax.errors import UserError
from mdp_jax.planning import flops, programs
from mdp_jax.training import profiling
from mdp_jax.training.profiling import Profile, Tracing
from tests import tiny


def test_shares_of_overlapping_work():
    """From 100 to 200: work at 90-110, 105-120 and 150-160 is 30; waiting at 115-140 adds 20; 50 is the host's."""
    work, waits = [(150, 160), (90, 110), (105, 120), (300, 400)], [(115, 140), (10, 20)]
    assert profiling.shares(work, waits, 100, 200) == pytest.approx((0.3, 0.2, 0.5, 1e-7))


def test_shares_without_work_or_waiting():
    assert profiling.shares([], [], 0, 10)[:3] == (0, 0, 1)
    assert profiling.shares([(0, 10)], [(0, 10)], 0, 10)[:3] == (1, 0, 0)


@pytest.mark.parametrize("text", ["100", "1O0:110", ":5", "5:", "-1:4", "1.5:2", "1:2:3", ""])
def test_no_range(text):
    with pytest.raises(UserError, match=rf"--profile {re.escape(text)}: expected FIRST:LAST, .* as in 100:110"):
        profiling.parse(text)


@pytest.mark.parametrize("first_last", [(0, 3), (7, 13), (5, 4), (13, 13)])
def test_a_range_outside_of_the_run(first_last):
    profiling.check(Profile(1, 12), 12)
    profiling.check(None, 12)
    with pytest.raises(UserError, match="the steps of this run are 1 to 12; expected two of them, the smaller first"):
        profiling.check(Profile(*first_last), 12)


@pytest.mark.parametrize("part", ["pretrain", "finetune"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "10:13"], "--profile 10:13: the steps of this run are 1 to 12"),
        (["--profile_all"], "--profile_all: says whose steps are traced; give --profile FIRST:LAST too"),
    ],
)
def test_refused_before_anything_is_written(part, words, message, tmp_path):
    (tmp_path / "config.py").write_text(
        f"from tests import tiny\n\n\ndef get_config():\n    return tiny.{part}_config()\n"
    )
    with pytest.raises(UserError) as error:
        mdp([part, "--config", str(tmp_path / "config.py"), "--workdir", str(tmp_path / "run"), *words])
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_steps_that_were_taken_before(tmp_path):
    tracing = Tracing(Profile(3, 5), tmp_path, start=5)
    assert tracing.said == ["--profile 3:5: these steps were taken before; there is no trace of them now"]
    with tracing.step(6):
        pass
    assert tracing.done(6, None) == 0
    assert not any(tmp_path.iterdir())


def test_a_trace_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / "profile").write_text("")
    tracing = Tracing(Profile(1, 1), tmp_path, start=0)
    with tracing.step(1):
        pass
    tracing.done(1, jax.numpy.zeros(2))
    tracing.close()
    (line,) = tracing.said
    assert line.startswith("warning: the profile of steps 1:1 cannot be written (")


@pytest.mark.parametrize(
    ("config", "scopes"),
    [
        (tiny.pretrain_config, {"network", "loss", "bank", "mixing", "optimizer", "momentum"}),
        (tiny.finetune_config, {"network", "loss", "optimizer"}),
    ],
)
def test_named_scopes(config, scopes):
    config = config(devices=1)
    program = programs.program(config, jax.devices()[:1], programs.label_space(config, 24))
    found = set()
    flops.count(
        program.step.trace(program.state, program.batch).jaxpr.jaxpr,
        lambda scope: found.update(re.findall(r"\w+", scope)) or "all",
    )
    assert scopes <= found
