"""Checkpoints: one safetensors file that holds weights, optimiser state and counters.

The counters travel as JSON in the file's header, so that a checkpoint is one file, written whole
or not at all. Nothing in it is executable.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from matml.core.errors import reading
from matml.core.files import atomic
from matml.core.integrity.formats import Format, check_seal, header, read_header, seal

TENSORS = Format("tensors", 1, "delete it and run again, or copy it again")


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON-able state to one file, whole or not at all."""
    flat = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(flat, temporary, metadata=header(TENSORS, state))
        seal(temporary)


def load_checkpoint(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the state of a checkpoint.

    Raises
    ------
    MatmlError
        Where the file is missing or damaged, or was not written by `save_checkpoint`.
    """
    with reading(path, TENSORS.remedy):
        check_seal(path, TENSORS)
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, read_header(metadata, path, TENSORS)


def copy_checkpoint(path: Path, to: Path) -> None:
    """Copy a checkpoint, whole or not at all.

    Raises
    ------
    MatmlError
        Where it is missing or damaged: a copy would pass for what was written.
    """
    with reading(path, TENSORS.remedy):
        check_seal(path, TENSORS)
    with atomic(to) as temporary:
        shutil.copyfile(path, temporary)


def pack(prefix: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dictionary with every name prefixed."""
    return {f"{prefix}.{name}": tensor for name, tensor in state_dict.items()}


def unpack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors packed under a prefix, by their own names."""
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def fingerprint(*tensors: Tensor) -> str:
    """Return a hash of tensors, to tell whether a checkpoint belongs to the run that finds it."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        # numpy knows no bfloat16; float holds each of its values
        plain = plain.float() if plain.dtype == torch.bfloat16 else plain
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()


def content(data: Any) -> str:
    """Return a hash of the tensors and plain values that data hold, however they are nested."""
    digest = hashlib.sha256()
    if isinstance(data, Tensor):
        digest.update(fingerprint(data).encode())
    elif hasattr(data, "to_dict"):
        return content(data.to_dict())
    elif isinstance(data, Mapping):
        for name in sorted(data, key=str):
            digest.update(f"{name}\0{content(data[name])}\0".encode())
    elif isinstance(data, (list, tuple)):
        digest.update("\0".join(map(content, data)).encode())
    elif is_dataclass(data) and not isinstance(data, type):
        return content(vars(data))
    elif isinstance(data, np.ndarray):
        digest.update(f"{data.dtype}{data.shape}".encode() + np.ascontiguousarray(data).tobytes())
    else:
        plain = isinstance(data, (bool, int, float, str, type(None)))
        digest.update((repr(data) if plain else type(data).__name__).encode())
    return digest.hexdigest()


def pack_random_state() -> dict[str, Tensor]:
    """Return the states of torch's own generators, of the CPU and of each GPU in use."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f"random.cuda.{number}"] = state
    return states


def unpack_random_state(tensors: dict[str, Tensor]) -> None:
    """Put packed states back into torch's generators; GPUs that are not there any more aside."""
    torch.set_rng_state(tensors["random.cpu"])
    states = unpack("random.cuda", tensors)
    if len(states) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all([states[str(number)] for number in range(len(states))])


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state (moments, step counts), by number and name."""
    return {
        f"optimizer.{number}.{key}": torch.as_tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if value is not None
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put packed state back into an optimiser over the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in unpack("optimizer", tensors).items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
