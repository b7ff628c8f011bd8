"""Reads a state dict from a .pt, .pth or .safetensors file, and checks that it fits a network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from winnow.spaces.errors import InputError

# Keys under which files of Winnow (the first key) and of other tools contain the state dict.
CONTAINERS = ("weights", "state_dict", "model_state_dict", "model")

WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors")

# Prefixes that wrappers add to every name.
PREFIXES = ("module.", "_orig_mod.")


def is_file(weights: str) -> bool:
    """Return whether the `weights` of a backbone name a file rather than published weights."""
    return weights.endswith(WEIGHT_SUFFIXES) or "/" in weights


def near(name: str, allowed: list[str]) -> str:
    """Return `; did you mean ...?` with the nearest allowed names; empty if none is near.

    Args:
        name: The name that is unknown.
        allowed: The known names.
    """
    matches = get_close_matches(name, allowed, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""


def read_file(path: Path, key: str, device: torch.device) -> dict[str, Any]:
    """Read a weight file.

    Args:
        path: A .pt, .pth or .safetensors file.
        key: The config path that names the file, for messages.
        device: Device of the tensors; with `meta`, only names and shapes are read.

    Returns:
        The content of the file.

    Raises:
        InputError: The file is missing, or cannot be read as a state dict.
    """
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
        raise InputError(f"{key}: {path} contains a {type(content).__name__}, not a state dict")
    return content


def state_dict(content: Mapping[str, Any], path: Path, key: str) -> dict[str, Tensor]:
    """Return the tensors by name, without the usual containers and prefixes.

    Args:
        content: Content of the file.
        path: The file, for messages.
        key: The config path that names the file, for messages.
    """
    inner = next((content[name] for name in CONTAINERS if isinstance(content.get(name), dict)), content)
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{key}: {path} contains no tensors, only {sorted(map(str, content))[:5]}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, key: str, kind: str) -> None:
    """Copy tensors into a network.

    Args:
        network: The network; on the `meta` device only names and shapes are checked.
        tensors: The tensors by name.
        path: The file that they come from, for messages.
        key: The config path that names the file, for messages.
        kind: Description of the network, for messages.

    Raises:
        InputError: Names or shapes do not match.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unknown = [name for name in tensors if name not in own]
    unequal = [
        f"{name} is {_shape(tensors[name])} in the file, {_shape(value)} in the network"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} of {total} tensors {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for names, total, what in (
            (missing, len(own), "are missing"),
            (unknown, len(tensors), "are unknown to the network"),
            (unequal, len(own), "have a different shape"),
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
    # The package does not support the `meta` device. On the CPU it maps the file into memory without copying it.
    return {name: tensor.to(device) for name, tensor in load_file(path).items()}


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
