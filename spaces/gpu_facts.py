"""The facts about a GPU that are recorded with the figures of each epoch; the tables have a column for each."""

from __future__ import annotations

from typing import NamedTuple


class GpuFact(NamedTuple):
    """A key of the lines in `epochs.jsonl`, absent on other devices."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    peak: bool = False
    """Whether it grows during a training; the tables then have its largest value."""


GPU_FACTS = (
    GpuFact("gpu_memory_mb", "float", "memory of the GPU", "MB"),
    GpuFact("driver", "string", "version of NVIDIA's driver"),
    GpuFact("cuda", "string", "version of CUDA, or of ROCm, that torch was built for"),
    GpuFact("cudnn", "string", "version of cuDNN"),
    GpuFact("tf32", "bool", "whether float32 matrix products are computed in TensorFloat-32"),
    GpuFact(
        "replayed_cuda_graphs",
        "bool",
        "whether the forward and backward pass were replayed as CUDA graphs at the end of the epoch",
    ),
    GpuFact("peak_allocated_mb", "float", "peak GPU memory allocated to the tensors of the training", "MB", peak=True),
    GpuFact(
        "peak_reserved_mb",
        "float",
        "peak GPU memory reserved by torch, including memory kept for reuse; of rank 0 if several GPUs train together",
        "MB",
        peak=True,
    ),
)
GPU_FACT_NAMES = tuple(fact.name for fact in GPU_FACTS)
