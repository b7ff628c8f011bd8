"""The errors of a training, and the status of a trial that ended with one. Torch is imported only when it is needed."""

from __future__ import annotations

import errno
import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from winnow.search.status import STORAGE_FAILED
from winnow.spaces.errors import ModelRefused, printable
from winnow.spaces.trial_status import TrialStatus


class RankLost(Exception):
    """A rank was lost, so the training as a whole failed; it resumes elsewhere from its checkpoint."""


class DeviceLost(RankLost):
    """The device no longer works in this process; the training resumes in another process from its checkpoint."""


class StorageFailed(Exception):
    """A file of the run cannot be written or read, for example because the disk is full; the training did not cause it."""


class Failed(Exception):
    """An error of a training in another process: the status of the trial, and the message."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


@contextmanager
def storage_errors(where: str, *, may_be_missing: bool = True) -> Iterator[None]:
    """Turn a failed access to the files of the run at `where` into `StorageFailed`.

    Args:
        where: The folder or URI of the files, for the message.
        may_be_missing: Whether a missing file stays a `FileNotFoundError`. If not, its folder was deleted. Default: True.

    Raises:
        StorageFailed: A file cannot be written or read.
        FileNotFoundError: A file is missing, and may be.
    """
    try:
        yield
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        raise StorageFailed(f"{error.strerror or error}: {where}") from error


def failure(error: BaseException) -> tuple[str, str]:
    """Return the status of a training that ended with `error`, and the message.

    Raises:
        DeviceLost: The training has not ended; it continues in another process.
    """
    if isinstance(error, Failed):
        return error.status, error.text
    if is_out_of_memory(error):
        return TrialStatus.OUT_OF_MEMORY, printable(str(error)) or type(error).__name__
    if spoils_process(error):
        raise DeviceLost(headline(error)) from error  # whose traceback shows where
    if isinstance(error, StorageFailed):
        return STORAGE_FAILED, str(error)
    if isinstance(error, ModelRefused):
        return TrialStatus.INFEASIBLE, printable(str(error))
    return TrialStatus.FAILED, printable("".join(traceback.format_exception(error, limit=-8)))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device or the machine is out of memory, by its type or text."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _has(error, (*OUT_OF_MEMORY, *NO_HANDLE))


def spoils_process(error: BaseException) -> bool:
    """Return whether the process must be replaced after an error: any error of a device or its libraries except a lack of memory.

    After some, such as an illegal access, no kernel can run in the process. CUDA raises such an error again and again until the
    process ends, so the causes of the error are examined too.
    """
    import torch

    link: BaseException | None = error
    while link is not None:
        is_of_device = isinstance(link, torch.AcceleratorError) or _has(link, DEVICE_ERROR)
        if isinstance(link, RuntimeError) and is_of_device and not _has(link, OUT_OF_MEMORY):
            return True
        link = link.__cause__ or link.__context__
    return False


def headline(error: BaseException) -> str:
    """Return the type and the first line of an error. CUDA's other lines are advice and name no cause."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])


OUT_OF_MEMORY = (
    "out of memory",  # CUDA, its driver, HIP, XPU, MPS, and NCCL in a later line
    "alloc_failed",  # cuBLAS, cuDNN
    "allocation_failed",  # cuDNN 9, device and host
    "unable to find an engine",  # no algorithm has a workspace that fits into memory
    "unable to find a valid cudnn algorithm",
    "allocate memory",  # "can't": torch's allocator of the CPU; "cannot": mmap
)
"""Texts, in lower case, of errors that mean out of memory although their type does not say so."""

NO_HANDLE = ("cublas_status_not_initialized", "cudnn_status_not_initialized")
"""Texts of cuBLAS and cuDNN without memory for their handle. They have other causes too, so the process is replaced as well."""

DEVICE_ERROR = (
    "cuda error",
    "cuda driver error",
    "hip error",
    "hip driver error",
    "cudnn error",
    "cudnn_status_",
    "miopen error",
    "cublas_status_",
    "hipblas_status_",
    "rocblas_status_",
    "cusparse_status_",
    "hipsparse_status_",
    "cusolver error",
    "cusolver_status_",
    "cufft error",
    "triton error",
)
"""Texts, in lower case, of errors of devices and their libraries; most have no specific type."""


def _has(error: BaseException, texts: tuple[str, ...]) -> bool:
    message = str(error).lower()
    return any(text in message for text in texts)


def release_memory() -> None:
    """Release cached memory for the next training, here or in another process on the same GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
