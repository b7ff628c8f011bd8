"""Trains one config in several processes at the same time, for the benchmark of packing (benchmarks/speed/gpu.py)."""

from __future__ import annotations

import queue
from typing import Any

import torch

from winnow.search.data.image_data import ImageData
from winnow.search.training.speed_probe import measure
from winnow.spaces.schema import Config

PATIENCE_SECONDS = 120.0  # for processes that train at once


def together(
    config: Config, data: ImageData, at_once: int, device: torch.device, seconds: float, threads: int
) -> dict[str, Any]:
    """Train `config` in so many processes at the same time, timed as `winnow` times itself."""
    context = torch.multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(at_once), context.Queue()
    processes = [
        context.Process(target=train_beside_others, args=(config, data, device, seconds, threads, gate, answers))
        for _ in range(at_once)
    ]
    for process in processes:
        process.start()
    found: list[dict[str, Any]] = []
    error = ""
    try:
        while len(found) < at_once:
            found.append(answers.get(timeout=PATIENCE_SECONDS))
    except queue.Empty:
        error = f"(only {len(found)} of {at_once} answered)"
    for process in processes:
        process.join(timeout=10 if not error else 0)
        process.kill()
    errors = [one["error"] for one in found if "error" in one]
    error = error or "; ".join(errors[:1])
    return {
        "images_per_second": 0.0 if error else sum(one["images_per_second"] for one in found),
        "memory_mb": max((one["memory_mb"] for one in found if "error" not in one), default=0.0),
        "device_mb": max((one["device_mb"] for one in found if "error" not in one), default=0.0),
        "error": error,
    }


def train_beside_others(
    config: Config, data: ImageData, device: torch.device, seconds: float, threads: int, gate: Any, answers: Any
) -> None:
    torch.set_num_threads(threads)
    try:
        found = measure(config, data, device, 0, seconds, gate.wait)
        gate.wait()  # the memory of the device is that of all of them
        device_mb = 0.0
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            device_mb = (total - free) / 2**20
        gate.wait()
    except RuntimeError as error:  # out of memory; or BrokenBarrierError, since another one was
        gate.abort()
        answers.put({"error": str(error).splitlines()[0] if str(error) else "another of them failed"})
        return
    answers.put({"images_per_second": found.images_per_second, "memory_mb": found.memory_mb, "device_mb": device_mb})
