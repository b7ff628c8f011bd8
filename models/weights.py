"""Weight files: a state dict in .pt, .pth or .safetensors, and whether it fits a network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from winnow.spaces.errors import InputError

# Where files of this and other tools keep the state dict; Winnow's own winners use the first.
CONTAINERS = ("weights", "state_dict", "model_state_dict", "model")

# What wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.")


def read_file(path: Path, key: str, device: torch.device) -> dict[str, Any]:
    """The content of a weight file, on `device` (on `meta`: names and shapes only). `key` is the config path, for messages."""
    if not path.is_file():
        raise InputError(f"{key}: no such file: {path} (relative paths count from the working directory)")
    try:
        content = _read_safetensors(path, device) if path.suffix == ".safetensors" else _read_pickle(path, device)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{key}: {path} is not readable as a state dict ({reason}); save one with torch.save(network.state_dict(), path)"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{key}: {path} holds a {type(content).__name__}, not a state dict")
    return content


def state_dict(content: Mapping[str, Any], path: Path, key: str) -> dict[str, Tensor]:
    """The tensors by name, out of the usual wrappers."""
    inner = next((content[name] for name in CONTAINERS if isinstance(content.get(name), dict)), content)
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{key}: {path} holds no tensors, only {sorted(map(str, content))[:5]}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, key: str, kind: str) -> None:
    """Copy the tensors in; raises InputError unless names and shapes agree. `kind` says in words what the network is."""
    own = network.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    surplus = [name for name in tensors if name not in own]
    other = [
        f"{name} is {_shape(tensors[name])} there, {_shape(value)} here"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} of {total} tensors {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for names, total, what in (
            (missing, len(own), "are missing"),
            (surplus, len(tensors), "are unknown to the network"),
            (other, len(own), "have another shape"),
        )
        if names
    ]
    if problems:
        raise InputError(f"{key}: {path} does not fit {kind}: {'; '.join(problems)}")
    own.update(tensors)
    if not any(value.is_meta for value in own.values()):
        network.load_state_dict(own)


def _read_pickle(path: Path, device: torch.device) -> Any:
    return torch.load(path, map_location=device, weights_only=True)


def _read_safetensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    # The package has no `meta` device; on the CPU it maps the file into memory and copies nothing yet.
    return {name: tensor.to(device) for name, tensor in load_file(path).items()}


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
