"""A user's own data set by import path: `data: {name: "my_pkg.data:build", arguments: {...}}`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from winnow.search.data.foreign import shown
from winnow.search.data.listing import SPLIT_NAMES, Encoded, Listing, Part, split_of, text_array
from winnow.search.data.table_values import groups_of
from winnow.spaces import schema
from winnow.spaces.errors import InputError


def list_own(data: schema.Data) -> Listing:
    """Call the user's function and list what it returns.

    The function is called with `data.arguments`, and with `path` where that is set. It returns one split or a mapping
    {"train": split, "validation": split, "test": split}. A split is (images, labels), or an iterable of (image, label). An image
    is a uint8 array [H, W] or [H, W, C], a PIL image, the bytes of a file, or a path; a label an integer or a text.

    Raises:
        InputError: Where the function cannot be called, or returns something else.
    """
    function = _load(data.name)
    arguments = {**data.arguments, **({} if data.path is None else {"path": data.path})}
    made = _called(data.name, function, arguments)
    splits = made if isinstance(made, Mapping) else {"train": made}
    parts = {}
    for name, value in splits.items():
        split = split_of(str(name))
        if split is None:
            raise InputError(f"data set {data.name}: returned a split {name!r}; allowed: {', '.join(SPLIT_NAMES)}")
        parts[split] = _part(value, f"data set {data.name}, {split}", data)
    if "train" not in parts:
        raise InputError(
            f"data set {data.name}: returned {', '.join(map(str, splits)) or 'nothing'}, but no train split"
        )
    return Listing(parts, files=(), source_key=_key(parts), notes=(f"images and classes from {data.name}",))


def _load(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # an installed command does not look there, `python -m` does
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # code of the user's runs here
        raise InputError(
            f"data set {name}: importing {module_name} failed with {type(error).__name__}: {error}; "
            "the package must be installed or lie in the working directory"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = get_close_matches(function_name, [key for key in vars(module) if not key.startswith("_")], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"data set {name}: module {module_name} has no function {function_name}{hint}")
    return function


def _called(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"data set {name}: {error}; it was given {', '.join(arguments) or 'nothing'}, and takes "
            f"{', '.join(inspect.signature(function).parameters) or 'nothing'}"
        ) from error
    except ValueError:  # some callables written in C have no signature
        pass
    try:
        return function(**arguments)
    except Exception as error:  # code of the user's: it may raise anything, and the message must say where
        raise InputError(f"data set {name} raised {type(error).__name__}: {error}") from error


def _part(value: Any, where: str, data: schema.Data) -> Part:
    images, labels = _pairs(value, where)
    contents = [_content(image, f"{where}, image {row}") for row, image in enumerate(images)]
    groups = None
    if data.groups is not None:
        paths = [shown(content) if isinstance(content, Path) else "" for content in contents]
        groups = groups_of(paths, data.groups)
    names = [shown(c) if isinstance(c, Path) else f"{where}, image {row}" for row, c in enumerate(contents)]
    return Part(_labels(labels, where), lambda rows: (Encoded(names[row], contents[row]) for row in rows), groups)


def _pairs(value: Any, where: str) -> tuple[list[Any], list[Any]]:
    try:
        if isinstance(value, tuple) and len(value) == 2 and not _is_pair_of_one(value):
            images, labels = list(value[0]), np.asarray(value[1]).tolist()
        elif isinstance(value, Iterable) and not isinstance(value, np.ndarray):
            pairs = [tuple(pair) for pair in value]
            images, labels = [image for image, _ in pairs], [label for _, label in pairs]
        else:
            raise TypeError(f"it is {type(value).__name__}")
    except InputError:
        raise
    except Exception as error:  # the iterable is code of the user's
        raise InputError(
            f"{where}: must be (images, labels), or an iterable of (image, label) ({type(error).__name__}: {error})"
        ) from error
    if len(images) != len(labels):
        raise InputError(f"{where}: {len(images)} images, but {len(labels)} labels")
    return images, labels


def _is_pair_of_one(value: tuple[Any, Any]) -> bool:
    """A tuple of two (image, label) pairs, which is an iterable of them."""
    return all(isinstance(item, tuple) and len(item) == 2 for item in value)


def _content(image: Any, where: str) -> bytes | Path | np.ndarray:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, Image.Image):
        mode = {"1": "L", "P": "RGBA", "LA": "RGBA", "PA": "RGBA"}.get(image.mode, image.mode)
        image = np.asarray(image.convert(mode) if mode != image.mode else image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"{where}: is {type(image).__name__}; an array, a PIL image, bytes or a path is needed")
    image = image[..., None] if image.ndim == 2 else image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise InputError(
            f"{where}: must be uint8 [H, W] or [H, W, C] with 1, 3 or 4 channels, but is {image.dtype} {list(image.shape)}"
        )
    return image


def _labels(labels: list[Any], where: str) -> np.ndarray:
    values = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if values and all(isinstance(value, str) for value in values):
        return text_array(values)
    wrong = [value for value in values if not isinstance(value, int) or isinstance(value, bool)]
    if wrong:
        raise InputError(f"{where}: labels are integers or texts, all alike, but one is {wrong[0]!r}")
    return np.array(values, dtype=np.int64)


def _key(parts: Mapping[str, Part]) -> str:
    """By everything that the function returned, and by the content of the files that it named."""
    digest = hashlib.sha256()
    for split, part in parts.items():
        digest.update(json.dumps([split, part.labels.tolist()]).encode())
        for item in part.items(range(len(part.labels))):
            content = item.content
            if isinstance(content, Path):
                content = content.read_bytes() if content.is_file() else shown(content).encode()
            if isinstance(content, np.ndarray):
                digest.update(str(content.shape).encode())
                content = np.ascontiguousarray(content).tobytes()
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
