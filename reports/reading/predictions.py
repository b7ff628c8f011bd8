"""Reads the prediction files of retraining."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from winnow.reports.reading.archives import check_expansion
from winnow.reports.reading.files import file_in
from winnow.spaces.errors import InputError

PREDICTIONS = "predictions.npz"
"""The prediction file in the folder of one training."""
FORMS = {
    "index": ("iu", "n"),
    "true": ("iu", "n"),
    "predicted": ("iu", "n"),
    "confidence": ("f", "n"),
    "probability_true": ("f", "n"),
}
"""Kinds of numbers (NumPy's `dtype.kind`) and dimensions of the arrays that every prediction file has."""
LATER_FORMS = {
    "probabilities": ("f", "nK"),
    "name": ("U", "n"),
    "gallery_index": ("iu", "m"),
    "gallery_images": ("u", "mHWC"),
}
"""The same of arrays that a file may lack."""
MOST_CLASSES = 100_000
"""Limit of the classes where there are no probabilities, which number them."""


def load_predictions(folder: Path, name: str) -> dict[str, np.ndarray] | None:
    """Load a prediction file.

    Args:
        folder: The folder of a run or a training.
        name: Name in it of an .npz file, as retraining and `winnow train --output` write it.

    Returns:
        Its arrays: index, true, predicted, confidence and probability_true [n], gallery_index [m] and gallery_images
        [m, H, W, C]. Newer versions also have probabilities float16 [n, K] and the name of each image [n]. None if the file is
        missing or damaged: a command that was killed may have left it incomplete, and somebody else may have made it.

    Raises:
        InputError: It does not lie in the folder, is not a file, or would grow far more than predictions do.
    """
    path = file_in(folder, name)
    try:
        check_expansion(path)
        with np.load(path) as opened:
            arrays = dict(opened)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None
    return arrays if _are_predictions(arrays) else None


def _are_predictions(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether the arrays have kinds, sizes and classes that belong together."""
    if not FORMS.keys() <= arrays.keys() or ("gallery_index" in arrays) != ("gallery_images" in arrays):
        return False
    sizes: dict[str, int] = {}
    for name, (kinds, dimensions) in (FORMS | LATER_FORMS).items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != len(dimensions):
            return False
        if any(sizes.setdefault(key, size) != size for key, size in zip(dimensions, array.shape, strict=True)):
            return False
    if not sizes["n"] or not np.can_cast(arrays["index"].dtype, np.int64):
        return False
    if "C" in sizes and not (arrays["gallery_images"].dtype == np.uint8 and sizes["C"] in (1, 3)):
        return False
    classes = np.concatenate([arrays["true"], arrays["predicted"]])
    return bool(classes.min() >= 0 and classes.max() < sizes.get("K", MOST_CLASSES))


def largest_share(arrays: Mapping[str, np.ndarray]) -> float:
    """Return the accuracy of always predicting the largest class of the test images, in [0, 1].

    Args:
        arrays: The arrays of a prediction file.
    """
    return float(np.bincount(arrays["true"]).max() / len(arrays["true"]))


def validation_files(run: Path) -> dict[int, Path]:
    """Return the files with the predictions of trials on the validation images (`search.keep_predictions`), by the number of the trial."""
    files = sorted((run / "predictions").glob("validation-trial-*.npz"))
    numbers = [path.stem.removeprefix("validation-trial-") for path in files]
    return {int(number): path for number, path in zip(numbers, files, strict=True) if number.isdecimal()}


def encoded_gallery(arrays: Mapping[str, np.ndarray]) -> dict[int, bytes]:
    """Encode the images kept in a prediction file as PNG, keyed by their index in the test set."""
    if "gallery_images" not in arrays:
        return {}
    return {
        int(index): _png(image)
        for index, image in zip(arrays["gallery_index"].tolist(), arrays["gallery_images"], strict=True)
    }


def _png(image: np.ndarray) -> bytes:
    """Encode an image, uint8 [H, W, C] with one or three channels, as PNG."""
    from PIL import Image

    buffer = BytesIO()
    pixels = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
