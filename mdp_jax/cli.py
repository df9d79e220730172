"""The `mdp` command: a table of parts, nothing else."""

import argparse
import contextlib
import errno
import importlib
import io
import os
import re
import sys
import traceback
from typing import Any, NoReturn

from mdp_jax import runtime
from mdp_jax.errors import NonFiniteError, PreemptedError, TransientError, UserError, is_transient, of_system

PARTS = {
    "data": "prepare, check and browse datasets before a run",
    "pretrain": "pretrain one network on several datasets whose classes do not agree",
    "finetune": "fine-tune on one dataset, from pretrained weights or from scratch",
    "adopt": "a segmenter of a new set in seconds, without a training step",
    "inspect": "what a pretraining has found of its classes: which are alike, over time, and what may be wrong",
    "edit-bank": "other sets and classes for a pretrained checkpoint, which goes on training with them",
    "evaluate": "mIoU, mAcc and aAcc on the validation photos",
    "report": "curves and tables of several runs on one page",
    "predict": "label maps, overlays and probabilities for photos",
    "export": "a trained network as StableHLO or ONNX, with a model card",
    "serve": "a page to try a network: photos, classes under the pointer, new classes from a stroke",
    "convert": "weights from and to the files of torchvision, MMSegmentation and timm",
    "compare": "numerics against PyTorch, layer by layer and step by step",
    "plan": "memory, FLOPs, traffic, hours and money on TPU slices or GPU nodes that are not here",
    "bench": "the speed of this package, beside PyTorch's where it is installed",
    "reproduce": "the paper's comparisons on small sets, with intervals and verdicts",
    "quickstart": "the whole way on built-in drawn datasets, in minutes, with a report",
}

# What an operating system says of a disk that is full or not to be written to: no mistake of this package.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
_AGAIN = 75  # EX_TEMPFAIL: launchers may start the command again
_OF_THE_MACHINE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
# What JAX, PyTorch, OpenCV and the C++ library say where memory does not suffice; a program that crashed says more.
_OUT_OF_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED|out of memory|bad_alloc|Insufficient memory|Cannot allocate memory", re.I
)
_SMALLER_RUN = (
    "a smaller config.batch or config.data.crop, config.accumulate=2 or more, config.model.remat=blocks or more devices"
)
_SMALLER_PHOTOS = "--mode slide with a smaller --crop, fewer or smaller --scales, or a smaller config.data.short_side"
_SMALLER = {"pretrain": _SMALLER_RUN, "finetune": _SMALLER_RUN, "quickstart": _SMALLER_RUN, "bench": _SMALLER_RUN}
_SMALLER |= {"evaluate": _SMALLER_PHOTOS, "predict": f"--tile 1024, or {_SMALLER_PHOTOS}"}
_SMALLER |= {"export": "--no_check, or a smaller --size or --batch"}


class _Store(argparse.Action):
    """As argparse's own, but an option of several values that is given again adds its values to the earlier ones.

    Otherwise `--classes 1=road --classes 2=car` would lose the first class, and say nothing.
    """

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest, self.default)
        if self.nargs == "+" and before is not self.default and isinstance(values, list):
            values = [*before, *values]
        setattr(namespace, self.dest, values)


class _OneLineParser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("action", None, _Store)

    def error(self, message: str) -> NoReturn:
        message = re.sub("invalid int value: (.*)", r"\1; expected a whole number", message)
        message = re.sub("invalid float value: (.*)", r"\1; expected a number", message)
        raise UserError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        version = importlib.import_module("importlib.metadata").version  # here, so that --help does not wait for it
        print(f"mdp_jax {version('mdp_jax')}, JAX {version('jax')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="mdp", description="Multi-dataset pretraining for semantic segmentation.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of this package and of JAX")
    parts = parser.add_subparsers(dest="part", metavar="PART", required=True)
    for name, summary in PARTS.items():
        # Parts are imported when used: `mdp --help` should not wait for JAX.
        parts.add_parser(name, help=summary, add_help=False)
    return parser


def _split_overrides(rest: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separates `--config.key=value` and `--config.key value` from the other arguments."""
    others, overrides = [], []
    words = iter(rest)
    for word in words:
        if not word.startswith("--config."):
            others.append(word)
            continue
        key, equals, text = word.removeprefix("--config.").partition("=")
        value = text if equals else next(words, None)
        if value is None or (not equals and value.startswith("--")):  # the next option is no value
            raise UserError(f"{word}: expected a value, as in {word}=VALUE")
        overrides.append((key, value))
    return others, overrides


def run(arguments: list[str]) -> int:
    """Runs one part.

    Args:
      arguments: words of the command line, without `mdp`.

    Returns:
      Exit status.

    Raises:
      UserError: an argument is wrong, or data are bad.
      NonFiniteError: training stopped on a value that is not finite.
      PreemptedError: training was told to stop.
    """
    known, rest = _parser().parse_known_args(arguments)
    runtime.prepare()
    module = importlib.import_module(f"mdp_jax.commands.{known.part.replace('-', '_')}")
    parser = _OneLineParser(prog=f"mdp {known.part}", description=PARTS[known.part])
    module.add_arguments(parser)
    rest, overrides = _split_overrides(rest)
    return module.run(parser.parse_args(rest), overrides) or 0


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `mdp` command.

    Exit status: 0 done, 2 wrong use, bad data, a full disk or no memory, 3 non-finite loss, 75 a disk that failed for a
    moment, 143 or 130 told to stop, after a checkpoint, 141 nobody reads what is printed.

    Args:
      arguments: words of the command line, without `mdp`; those of this process where None.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter ends no run
            stream.reconfigure(errors="backslashreplace")
    if arguments is None:
        if runtime.malloc_helps(sys.argv[1:]):
            runtime.restart_with_malloc()
        runtime.collect_less()
    try:
        status = run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"mdp: {error}", file=sys.stderr)
        status = _AGAIN if isinstance(error, TransientError) else 2
    except NonFiniteError as error:
        print(f"mdp: {error}", file=sys.stderr)
        status = 3
    except PreemptedError as error:
        print(f"mdp: {error}", file=sys.stderr)
        status = error.status
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # as where `head` reads what is printed
        _forget_output()
        status = 141
    except Exception as error:
        line = _line_of(error, sys.argv[1:] if arguments is None else arguments)
        if line is None:
            _leave(1, traceback.format_exc())
            raise
        print(f"mdp: {line}", file=sys.stderr)
        status = _AGAIN if is_transient(error) else 2
    if status not in (0, 3, 143):  # which are the same in all processes
        _leave(status)
    sys.exit(status)


def _line_of(error: Exception, arguments: list[str]) -> str | None:
    """The one line for what a user or a machine can be told about; None for a mistake of this package."""
    said = " ".join(str(error).split())
    full = os.strerror(errno.ENOSPC)
    if full in said and not isinstance(error, OSError):  # in the words of a library
        return f"{full} ({said[:300]})"
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(said):
        part = arguments[0] if arguments else ""
        return f"out of memory ({said[:200] or type(error).__name__}); try {_SMALLER.get(part, 'a larger machine')}"
    if isinstance(error, OSError):
        if error.filename is None and error.errno not in _OF_THE_DISK + _OF_THE_MACHINE and not is_transient(error):
            return None
        name = "a file" if error.filename is None else os.fsdecode(error.filename)
        name = name if len(name) <= 1000 else f"...{name[-200:]}"
        if is_transient(error):
            return str(of_system(error, f"{name}: {error.strerror}"))
        expected = "" if error.errno in _OF_THE_DISK else "; expected a path that can be used"
        return f"{name}: {error.strerror}{expected}"
    if isinstance(error, RuntimeError) and said.startswith("Symlink loop from "):  # of pathlib
        return (
            f"{said.removeprefix('Symlink loop from ')}: links that lead in a circle; expected a path that can be used"
        )
    if isinstance(error, ValueError) and "embedded null" in said:
        return "a path has the character NUL; expected one without"
    return None


def _forget_output() -> None:
    """Python writes what is left when it ends, and would complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(status: int, said: str = "") -> None:
    """Ends a process of several (distributed.py, `leave`), which says something first; one alone goes on."""
    if distributed := sys.modules.get("mdp_jax.distributed"):  # JAX is not imported for what does not need it
        distributed.leave(status, said)


if __name__ == "__main__":
    main()
