"""Arguments that several commands take, and what is done with them before anything else.

What needs JAX is imported where it is used: `mdp pretrain --help` does not wait for it.
"""

import argparse
import os
import pathlib
import typing
from collections.abc import Sequence

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.configs import MethodConfig
from mdp_jax.errors import UserError
from mdp_jax.evaluation.chosen_weights import EMA, MOMENTUM, PLAIN, WEIGHTS
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.buckets import is_bucket
from mdp_jax.storage.files import require_regular
from mdp_jax.storage.paths import expanded, require_plain, require_possible

if typing.TYPE_CHECKING:
    from mdp_jax.training.profiling import Profile

_COPY = "expected a path of this machine (gcloud storage cp or aws s3 cp copies from and to a bucket)"


def whole_number(text: str) -> int:
    """A `type` for argparse: a whole number from 1."""
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text:.80}: expected a whole number from 1")
    return int(text)


def path(text: str) -> str:
    """A `type` for argparse, of an argument that is a path of this machine: ~ is the home folder.

    Raises:
      ArgumentTypeError: no home folder is known, no system has such a path, or it is of a bucket or another scheme.
    """
    found = place(text)
    if is_bucket(found):
        raise argparse.ArgumentTypeError(f"{found}: in a bucket, which this argument does not take; {_COPY}")
    return found


def place(text: str) -> str:
    """As `path`; it may also be of a bucket, gs:// or s3://."""
    try:
        return str(expanded(text)) if text else text
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def named(text: str) -> str:
    """As `place`, and not empty, as "$FOLDER" is where nobody has set FOLDER: that would be the folder one is in.

    Raises:
      ArgumentTypeError: an empty text, or as for `place`.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty text; expected a path (. is the folder that you are in)")
    return place(text)


def named_here(text: str) -> str:
    """As `named`, of a path of this machine."""
    named(text)
    return path(text)


def workdir(text: str) -> str:
    """As `named`, of a folder of runs: one in which checkpoints can be read again."""
    folder = named(text)
    try:
        require_plain(folder, "--workdir")
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return folder


def workdir_here(text: str) -> str:
    """As `workdir`, of a folder of this machine."""
    workdir(text)
    return path(text)


def checkpoint_step(text: str) -> str:
    """A `type` for argparse: which checkpoint of a workdir."""
    if text in ("best", "last") or (text.isdecimal() and len(text) <= 18):
        return text
    raise argparse.ArgumentTypeError(f"{text:.80}: expected best, last or the number of a step")


def add_step(parser: argparse.ArgumentParser, whose: str = "the workdir") -> None:
    """The argument that chooses a checkpoint.

    Args:
      parser: of the part.
      whose: of what it is the checkpoint, in words.
    """
    parser.add_argument(
        "--step",
        type=checkpoint_step,
        metavar="best|last|N",
        help=f"checkpoint of {whose}: that of the best validation, the newest, or that of step N (default: best where "
        "it is kept, else last)",
    )


def add_weights(parser: argparse.ArgumentParser, whose: str = "the workdir", choices: Sequence[str] = WEIGHTS) -> None:
    """The argument that chooses among the weights of a checkpoint.

    Args:
      parser: of the part.
      whose: of what it is the checkpoint, in words.
      choices: some of WEIGHTS.
    """
    said = {
        PLAIN: "plain: those of the step",
        EMA: "ema: their moving average, of a fine-tuning with config.optim.ema_decay",
        MOMENTUM: "momentum: the momentum encoder of a pretraining",
    }
    usual = "ema where it is kept, else plain" if EMA in choices else PLAIN
    each = "; ".join(said[name] for name in choices)
    parser.add_argument(
        "--weights",
        choices=tuple(choices),
        default="",
        help=f"which weights of the checkpoint of {whose}: {each} (default: {usual})",
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which names are near, where classes are known by their names alone.

    Args:
      parser: of the part.
    """
    parser.add_argument(
        "--names",
        type=named,
        metavar="FILE",
        help="an .npz of class names and their vectors, of the given names and of those of the network: names are near "
        "by the cosine of their vectors (docs/relations.md); without it equal names alone match",
    )
    parser.add_argument(
        "--near",
        type=_cosine,
        metavar="COSINE",
        help=f"with --names: smallest cosine of names that are near (default {MethodConfig.relation_threshold})",
    )


def _cosine(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text:.80}: expected a number above 0 and at most 1")
    return value


def output_file(text: str | None, option: str = "--json") -> pathlib.Path | None:
    """Checks a file that an option names, of this machine or a bucket, before anything is computed.

    Args:
      text: value of the option; None where it was not given.
      option: its name.

    Returns:
      The file; None where the option was not given.

    Raises:
      UserError: an empty text, as "$FILE" is where nobody has set FILE; a folder or a device; a folder around it that
        does not exist or cannot be written to; in a bucket, as for `require_possible`.
    """
    if text is None:
        return None
    if not text:
        raise UserError(f"{option}: an empty text; expected a file")
    file = expanded(text)
    in_bucket = isinstance(file, BucketPath)  # where a folder is there when something is in it
    if file.is_dir() or not (in_bucket or file.parent.is_dir()):
        raise UserError(f"{option} {file}: expected a file in a folder that exists")
    if in_bucket:
        require_possible(file.parent, option)
        return file
    if file.exists() and not file.is_file():  # which would be replaced by a file
        require_regular(file, "a file", f"{option} {file}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {file}: the folder cannot be written to; expected a file in one that can")
    return file


def add_platform(parser: argparse.ArgumentParser) -> None:
    """The argument that requires a kind of device."""
    parser.add_argument(
        "--platform",
        choices=runtime.PLATFORMS,
        help="kind of device that is required; without it the best one that JAX finds is used",
    )


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say how the processes of a run find each other to a parser."""
    group = parser.add_argument_group(
        "several processes", "Found by itself on TPU VMs, GKE and Slurm; said by these flags, or variables, elsewhere."
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 (MDP_COORDINATOR)")
    group.add_argument("--processes", metavar="N", help="how many processes there are (MDP_PROCESSES)")
    group.add_argument("--process", metavar="I", help="which of them this one is, from 0 (MDP_PROCESS)")


def add_run(parser: argparse.ArgumentParser, part: str, example: str, taken: str) -> None:
    """The arguments that every part which trains has.

    Args:
      parser: of the part.
      part: its name.
      example: a shipped config of it.
      taken: what of another network --init takes, in words.
    """
    parser.add_argument("--config", required=True, type=place, help=f"Python file with get_config(), e.g. {example}")
    parser.add_argument(
        "--init",
        type=named,
        help="where the first weights are from: the workdir of a run (mdp pretrain, finetune or edit-bank; its newest "
        "checkpoint), a file that ends in .pth, .pt or .safetensors, or scratch: random ones (default: "
        f"config.init, which is scratch where the config sets none). It takes {taken}",
    )
    parser.add_argument(
        "--workdir", required=True, type=named, help="folder of the run; started again on it, the run goes on"
    )
    parser.add_argument(
        "--continue_from",
        type=named,
        metavar="WORKDIR",
        help=f"workdir of mdp {part} from whose whole state this run goes on, with momenta and step, in a --workdir of "
        "its own: more --config.steps, or another --config.optim.lr",
    )
    parser.add_argument(
        "--step",
        type=checkpoint_step,
        metavar="best|last|N",
        help="checkpoint of --continue_from: that of the best validation, the newest (default), or that of step N",
    )
    add_weights(parser, "--init, where that is a workdir")
    add_platform(parser)
    parser.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="trace these steps for TensorBoard and Perfetto, into WORKDIR/profile, and say where their time went",
    )
    parser.add_argument("--profile_all", action="store_true", help="a trace of every process, not of process 0 alone")
    add_processes(parser)
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.optim.lr=0.05."


def profile_of_run(args: argparse.Namespace) -> "Profile | None":
    """The steps that --profile names; None where it is not given.

    Args:
      args: what `add_run` declares.

    Raises:
      UserError: they are no steps, or --profile_all stands alone.
    """
    if args.profile is None:
        if args.profile_all:
            raise UserError("--profile_all: says whose steps are traced; give --profile FIRST:LAST too")
        return None
    from mdp_jax.training import profiling

    return profiling.parse(args.profile, args.profile_all)


def config_of_run(args: argparse.Namespace, overrides: list[tuple[str, str]], loop: type) -> ConfigDict:
    """The config of a run: the file, the overrides, then --init and --weights or --continue_from. Joins the processes.

    Args:
      args: what `add_run` declares.
      overrides: pairs of a dotted key and a text.
      loop: PretrainConfig or FinetuneConfig, whose config it has to be.

    Raises:
      UserError: processes or devices that are not there, --step without --continue_from, --weights without --init, or a
        config that cannot be, or is of the other loop.
    """
    if args.step and not args.continue_from:
        raise UserError(
            f"--step {args.step}: says which checkpoint of --continue_from; expected --continue_from WORKDIR too"
        )
    if args.weights and (args.init is None or args.init == "scratch"):
        raise UserError(f"--weights {args.weights}: says which weights of --init; expected --init WORKDIR too")
    from mdp_jax import distributed

    distributed.start(args)
    require_plain(args.workdir, "--workdir")
    if args.init is not None:
        overrides = [*overrides, ("init", args.init)]
    if args.weights:
        overrides = [*overrides, ("init_weights", args.weights)]
    if args.continue_from:
        overrides = [*overrides, ("continue_from", args.continue_from), ("continue_step", args.step or "last")]
    return configs.apply_overrides(configs.load(args.config, loop), overrides)
