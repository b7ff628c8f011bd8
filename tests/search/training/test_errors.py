"""Errors of devices by their type and text: a lack of memory, a process that is spoiled, or neither."""

from __future__ import annotations

import errno

import pytest
import torch
from torch.distributed import DistBackendError

from winnow.search.training.errors import DeviceLost, RankLost, failure, headline, is_out_of_memory, spoils_process
from winnow.search.training.ranks import Rank, contact

ADVICE = (
    "\nSearch for `cudaErrorX' in https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information."
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect."
    "\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    "\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
NCCL = (
    "NCCL error in: ProcessGroupNCCL.cpp:2096, unhandled cuda error, NCCL version 2.30\nncclUnhandledCudaError: Call to CUDA "
    "function failed.\nLast error:\nFailed to CUDA calloc async 608 bytes; Cuda failure 2 'out of memory'"
)

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    torch.OutOfMemoryError("HIP out of memory."),
    torch.AcceleratorError("CUDA error: out of memory" + ADVICE),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    DistBackendError(NCCL),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("XPU out of memory."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    ),
    RuntimeError("unable to mmap 4096 bytes from file </torch_1>: Cannot allocate memory (12)"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
PERHAPS_NO_MEMORY = [
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
]
STICKS = [
    torch.AcceleratorError(f"CUDA error: {text}{ADVICE}")
    for text in (
        "device-side assert triggered",
        "an illegal memory access was encountered",
        "uncorrectable ECC error encountered",
        "unspecified launch failure",
        "no kernel image is available for execution on the device",
        "invalid device function",
        "invalid configuration argument",
        "invalid argument",
        "an error that nobody has seen",
    )
] + [
    torch.AcceleratorError("HIP error: invalid argument"),
    *[
        RuntimeError(text)
        for text in (
            "CUDA error: unspecified launch failure",
            "CUDA driver error: invalid argument",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa)`",
            "CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasSgemm( handle, opa)`",
            "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm( handle, opa)`",
            "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`",
            "CUDA error: CUSPARSE_STATUS_INTERNAL_ERROR when calling `cusparseSpMM`",
            "CUDA error: HIPBLAS_STATUS_INTERNAL_ERROR when calling `hipblasSgemm`",
            "HIP error: unspecified launch failure",
            "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
            "cuDNN error: CUDNN_STATUS_MAPPING_ERROR",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
            "cuDNN error: CUDNN_STATUS_BAD_PARAM",
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
            "miopen error: miopenStatusInternalError",
            "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`",
            "cuFFT error: CUFFT_INTERNAL_ERROR",
            "Triton Error [CUDA]: an illegal memory access was encountered",
        )
    ],
]
NEITHER = [
    AssertionError("Torch not compiled with CUDA enabled"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
    ValueError("out of memory"),
    OSError(errno.ENOSPC, "No space left on device"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=headline)
def test_a_lack_of_memory(error):
    assert is_out_of_memory(error)
    assert not spoils_process(error)
    assert failure(error)[0] == "out_of_memory"


@pytest.mark.parametrize("error", PERHAPS_NO_MEMORY, ids=headline)
def test_what_may_be_a_lack_of_memory_is_tried_in_pieces_in_another_process(error):
    assert failure(error)[0] == "out_of_memory"
    assert spoils_process(error)


@pytest.mark.parametrize("error", STICKS, ids=headline)
def test_an_error_that_sticks(error):
    assert spoils_process(error)
    assert not is_out_of_memory(error)
    wrapped = KeyError("raised while the first one was handled")
    wrapped.__context__ = error
    assert spoils_process(wrapped)


@pytest.mark.parametrize("error", NEITHER, ids=headline)
def test_neither(error):
    assert not is_out_of_memory(error)
    assert not spoils_process(error)


def test_a_lost_device_shows_where_the_error_was_raised():
    with pytest.raises(DeviceLost, match=r"^AcceleratorError: CUDA error: device-side assert triggered$") as lost:
        failure(STICKS[0])
    assert lost.value.__cause__ is STICKS[0]


def test_the_first_line_names_the_error():
    assert headline(STICKS[0]) == "AcceleratorError: CUDA error: device-side assert triggered"


def test_an_error_cannot_command_the_terminal():
    status, text = failure(RuntimeError("red \x1b[31m, bell \x07, a line\nand a tab\t."))
    assert status == "failed"
    assert text.endswith("RuntimeError: red \\x1b[31m, bell \\x07, a line\nand a tab\t.\n")


def test_a_lack_of_memory_in_nccl_is_no_lost_rank() -> None:
    """It has the class of a broken connection, but smaller pieces of a batch may need less memory."""
    with pytest.raises(DistBackendError) as raised, contact(Rank(0, 2)):
        raise DistBackendError(NCCL)
    assert failure(raised.value)[0] == "out_of_memory"
    with pytest.raises(RankLost), contact(Rank(0, 2)):
        raise DistBackendError("NCCL error: remote process exited")
