"""Files of weights: PyTorch's .pth and .safetensors, as dicts of NumPy arrays."""

import importlib.util
import io
import os
import pathlib
import re
import tempfile
import types
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.buckets import require_usable, upload
from mdp_jax.storage.json_files import partial_of
from mdp_jax.storage.paths import as_path

TORCH_SUFFIXES = (".pth", ".pt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")

# The safetensors format's names of the types that weights and counters come in.
_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_HALVES = {"float16", "bfloat16"}


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads the state dict of a file; half precision is cast to float32.

    Args:
      path: .safetensors, .pth or .pt. Of the last two only weights are read, which runs no code; the state dict may lie
        under "state_dict", as in MMSegmentation's files.

    Returns:
      {key: array}, float32 or float64 where it was floating; and lines that say what was cast, and which other weights
      the file holds.

    Raises:
      UserError: there is no such file, it has another suffix, it is not a checkpoint, its pickle holds more than
        weights, or torch is missing.
    """
    path = as_path(path)
    require_readable(path)
    state, notes = _read_torch(path) if path.suffix in TORCH_SUFFIXES else (_read_safetensors(path), [])
    if not state:
        raise UserError(f"{path}: no weights in it; expected some")
    for dtype in sorted({array.dtype.name for array in state.values()} & _HALVES):
        halves = [key for key, array in state.items() if array.dtype.name == dtype]
        state |= {key: state[key].astype(np.float32) for key in halves}
        notes.append(f"{len(halves)} of {len(state)} leaves are {dtype}; cast to float32")
    return state, notes


def require_readable(path: str | os.PathLike) -> None:
    """Checks, before anything is computed, that there is a file that `read` may be given.

    Args:
      path: the file.

    Raises:
      UserError: it is a folder, there is no such file, it has another suffix, or torch is missing.
    """
    path = as_path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected a file of weights (the workdir of a run goes with --from mdp)")
    _require_suffix(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a file of weights")
    if path.suffix in TORCH_SUFFIXES:
        _require_torch(path)


def require_writable(path: str | os.PathLike) -> None:
    """Checks, before anything is computed, that `write` can write a file.

    Args:
      path: the file.

    Raises:
      UserError: the suffix is another, the file exists, its folder does not exist or cannot be written to, or torch is
        missing.
    """
    path = as_path(path)
    _require_suffix(path)
    if path.exists():
        raise UserError(f"{path}: exists already; expected a new file")
    if isinstance(path, BucketPath):
        require_usable(str(path.parent), "OUT")
    elif not path.parent.is_dir():
        raise UserError(f"{path}: no folder {path.parent}; expected a new file in a folder that exists")
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the folder cannot be written to; expected a new file in one that can")
    if path.suffix in TORCH_SUFFIXES:
        _require_torch(path)


def write(path: str | os.PathLike, state: Mapping[str, np.ndarray], meta: Mapping | None = None) -> None:
    """Writes a state dict so that the file is either complete or absent, whatever happens in between.

    Args:
      path: a file that `require_writable` accepts.
      state: {key: array}.
      meta: plain values, for .pth alone: it is stored under "meta" and the state dict under "state_dict", where
        MMSegmentation reads both.

    Raises:
      UserError: the file cannot be written.
    """
    path = as_path(path)
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory(prefix="mdp-weights-") as folder:
            write(pathlib.Path(folder, path.name), state, meta)
            upload(pathlib.Path(folder, path.name), str(path))
        return
    partial = partial_of(path)
    state = {key: np.ascontiguousarray(array) if array.ndim else array for key, array in state.items()}
    try:
        if path.suffix in TORCH_SUFFIXES:
            torch = _require_torch(path)
            tensors = {key: torch.tensor(array) for key, array in state.items()}
            torch.save(tensors if meta is None else {"meta": dict(meta), "state_dict": tensors}, partial)
        else:
            safetensors.numpy.save_file(state, partial, metadata={"format": "pt"})
        partial.replace(path)
    # torch and safetensors wrap what the disk says into errors of their own.
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise of_system(error, f"{path}: cannot be written ({_first_line(error)})") from None
    finally:
        partial.unlink(missing_ok=True)


def _require_suffix(path: pathlib.Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")


def _require_torch(path: pathlib.Path) -> types.ModuleType:
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"{path}: {path.suffix} files need PyTorch: pip install 'mdp_jax[torch]' (in the repository: make venv "
            "EXTRA=torch), or use .safetensors"
        )
    import torch

    return torch


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        # Not safetensors.numpy, which has no bfloat16.
        leaves = safetensors.deserialize(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        line = f"{path}: not a safetensors file ({_first_line(error)}); expected a whole one: copy or load it again"
        raise of_system(error, line) from None
    state = {}
    for key, leaf in sorted(leaves, key=lambda item: item[0]):  # they come in any order
        if leaf["dtype"] not in _SAFETENSORS_DTYPES:
            raise UserError(f"{path}: {key} has the type {leaf['dtype']}; expected float or half precision")
        state[key] = np.frombuffer(leaf["data"], np.dtype(_SAFETENSORS_DTYPES[leaf["dtype"]])).reshape(leaf["shape"])
    return state


def _read_torch(path: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    torch = _require_torch(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it speaks of pickle protocols, on several lines
            file = io.BytesIO(path.read_bytes()) if isinstance(path, BucketPath) else path
            content = torch.load(file, map_location="cpu", weights_only=True)
    # What is no checkpoint makes torch.load raise anything: UnpicklingError, RuntimeError, EOFError, KeyError.
    except Exception as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise UserError(
                f"{path}: holds more than weights ({named[1]}); refused, nothing in it was run; "
                "expected a state dict alone"
            ) from None
        raise UserError(
            f"{path}: not a PyTorch checkpoint of weights alone; refused, nothing in it was run; expected what "
            "torch.save wrote of a state dict: copy or load it again"
        ) from None
    notes = []
    for inner in ("state_dict", "model"):  # of MMEngine and others; of torchvision's training scripts
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            others = [str(name) for name, value in content.items() if name != inner and _holds_tensors(torch, value)]
            if others:  # such as a moving average
                notes.append(f"the weights under {inner} are read; those under {', '.join(others)} are not")
            content = content[inner]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}; expected a state dict")
    return {str(key): _array(torch, path, key, value) for key, value in content.items()}, notes


def _holds_tensors(torch: types.ModuleType, value: Any) -> bool:
    """Whether it is a state dict; the state of an optimizer has its tensors further inside."""
    return isinstance(value, Mapping) and any(isinstance(inner, torch.Tensor) for inner in value.values())


def _array(torch: types.ModuleType, path: pathlib.Path, key: str, value: Any) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        raise UserError(f"{path}: {key} is of type {type(value).__name__}; expected a state dict of tensors")
    value = value.detach()
    try:
        if value.dtype == torch.bfloat16:  # NumPy does not have it; the way over float32 loses nothing
            return value.float().numpy().astype(jnp.bfloat16)
        return value.numpy()
    except (TypeError, RuntimeError):
        raise UserError(f"{path}: {key} has the type {value.dtype}; expected float or half precision") from None
