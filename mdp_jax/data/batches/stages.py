"""How many steps a run has, and at which of them its stages begin (METHOD.md sections 5 and 7)."""

import itertools
import math
from collections.abc import Sequence

from mdp_jax.configs import PretrainConfig
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError

MOST_STEPS = 2**31 - 1  # a program counts them in 32 bits


def total_steps(config: PretrainConfig, samples: int) -> int:
    """The length of the run in steps; an epoch is as many samples as all datasets hold together.

    Args:
      config: of `mdp pretrain`.
      samples: number of samples that all datasets hold together.

    Returns:
      Steps, at least 1.

    Raises:
      UserError: more steps than a program can count.
    """
    steps = config.steps or math.ceil(config.epochs * samples / config.batch)
    if steps > MOST_STEPS:
        raise UserError(
            f"config.epochs={config.epochs}: {steps:,} steps for {samples:,} samples; expected at most {MOST_STEPS:,}"
        )
    return steps


def starts(config: PretrainConfig, sources: Sequence[Source]) -> tuple[int, ...]:
    """The steps at which the stages of a run begin; (0,) where all datasets are trained on jointly.

    Each stage takes a share of the steps that is proportional to the photos of its datasets.

    Args:
      config: of `mdp pretrain`, checked.
      sources: its datasets; `name` and `len` are looked at.

    Returns:
      The first step of each stage.

    Raises:
      UserError: the run is so short that a stage has no step.
    """
    if not config.stages:
        return (0,)
    photos = {source.name: len(source) for source in sources}
    of_stages = [sum(photos[name] for name in names) for names in config.stages]
    samples = sum(of_stages)
    steps = total_steps(config, samples)
    before = itertools.accumulate(of_stages[:-1], initial=0)
    found = tuple(round(steps * photos_before / samples) for photos_before in before)
    for names, start, end in zip(config.stages, found, (*found[1:], steps), strict=True):
        if start == end:
            raise UserError(f"config.stages: the stage of {', '.join(names)} has none of {steps} steps; expected one")
    return found


def weights(config: PretrainConfig, sources: Sequence[Source], joint: Sequence[float]) -> list[tuple[int, list[float]]]:
    """The weights of the datasets in each stage: its own datasets have those of joint training, all others 0.

    Args:
      config: of `mdp pretrain`, checked.
      sources: its datasets.
      joint: the weight of each dataset in joint training.

    Returns:
      The first step and the weights of the datasets, of each stage.
    """
    stages = config.stages or ([source.name for source in sources],)
    return [
        (start, [weight if source.name in names else 0.0 for source, weight in zip(sources, joint, strict=True)])
        for start, names in zip(starts(config, sources), stages, strict=True)
    ]
