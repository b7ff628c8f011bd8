"""The errors of a training, and the status of a trial that ended with one. Torch is imported only when it is needed."""

from __future__ import annotations

import gc
import traceback

from winnow.search.status import CANNOT_WRITE
from winnow.spaces.trial_status import TrialStatus


class RankLost(Exception):
    """A rank was lost, so the training as a whole failed; it resumes elsewhere from its checkpoint."""


class CannotWrite(Exception):
    """A checkpoint cannot be written, for example because the disk is full; the trial is not to blame."""


class Failed(Exception):
    """An error of a training in another process: the status of the trial, and the message."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


def failure(error: BaseException) -> tuple[str, str]:
    """Return the status of a training that ended with `error`, and the message."""
    if isinstance(error, Failed):
        return error.status, error.text
    if isinstance(error, CannotWrite):
        return CANNOT_WRITE, str(error)
    if is_out_of_memory(error):
        return TrialStatus.OUT_OF_MEMORY, str(error) or type(error).__name__
    return TrialStatus.FAILED, "".join(traceback.format_exception(error, limit=-8))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine is out of memory. Torch has no class for the machine, nor for CUDA's libraries."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def release_memory() -> None:
    """Release cached memory for the next training, here or in another process on the same GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
