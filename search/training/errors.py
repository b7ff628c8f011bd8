"""What can go wrong with a training, and the status that it then has. Imports no torch before it is needed."""

from __future__ import annotations

import gc
import traceback

from winnow.search.status import CANNOT_WRITE
from winnow.spaces.trial_status import TrialStatus


class RankLost(Exception):
    """One of the processes that train a network together was lost: the whole training is, and goes on from its checkpoint elsewhere."""


class CannotWrite(Exception):
    """A checkpoint cannot be written, as on a full disk: nothing that the trial can help."""


class Failed(Exception):
    """What went wrong with a training in another process: its status, and what to say of it."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


def failure(error: BaseException) -> tuple[str, str]:
    """The status of a training that ended with `error`, and what to say of it."""
    if isinstance(error, Failed):
        return error.status, error.text
    if isinstance(error, CannotWrite):
        return CANNOT_WRITE, str(error)
    if is_out_of_memory(error):
        return TrialStatus.OUT_OF_MEMORY, str(error) or type(error).__name__
    return TrialStatus.FAILED, "".join(traceback.format_exception(error, limit=-8))


def is_out_of_memory(error: BaseException) -> bool:
    """Of a device or of the machine; torch has no class of its own for the second, nor for CUDA's libraries."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def release_memory() -> None:
    """So that the next training, here or in another process on the same GPU, finds it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
