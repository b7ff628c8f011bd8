"""Images that are too many for the memory: mapped from files, read in chunks, and the same to the last bit."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from tests.helpers.layouts import parquet_set, pictures, png, read
from tests.helpers.tiny import CPU, figures, tiny_config
from winnow.search.data import image_data, space_left
from winnow.search.data.image_data import ImageData, joined
from winnow.search.training import device_data
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces.errors import InputError


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_left, "MEMORY_SHARE", 0.0)


def folder_set(root: Path, num: int = 60) -> Path:
    for k, image in enumerate(pictures(num, size=(8, 8))):
        place = root / "abc"[k % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{k}.png").write_bytes(png(image))
    return root


def trained(data: ImageData, use: Any = "search") -> list[dict[str, Any]]:
    config = tiny_config(data={"name": "image_folder", "path": "x", "augment": ["flip"]}, epochs=2)
    on_device = DeviceData.build(data, config.data, CPU, seed=0, use=use)
    return [figures(result) for result in train(config, on_device, CPU, seed=0)]


@pytest.mark.parametrize("use", ["search", "retrain"])
def test_a_training_on_mapped_images_is_the_same_to_the_last_bit(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_set(tmp_path / "set")
    in_memory = read(tmp_path, "image_folder")
    expected = trained(in_memory, use)
    monkeypatch.setattr(space_left, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr("winnow.search.training.device_data.CHUNK_FLOATS", 1)  # a batch at a time
    shutil.rmtree(tmp_path / "data")
    mapped = read(tmp_path, "image_folder")
    assert isinstance(mapped.train_images, np.memmap)
    assert not isinstance(in_memory.train_images, np.memmap)
    assert mapped.fingerprint == in_memory.fingerprint
    on_device = DeviceData.build(mapped, tiny_config().data, CPU, seed=5)
    assert on_device.train.reads_ahead
    # Another fingerprint, or the tensors of the process would be used again.
    assert trained(replace(mapped, fingerprint="other"), use) == expected


def test_mapped_images_travel_by_name(no_memory: None, tmp_path: Path) -> None:
    folder_set(tmp_path / "set", num=300)
    data = read(tmp_path, "image_folder")
    content = pickle.dumps(data)
    assert len(content) < data.train_images.nbytes / 2
    there = pickle.loads(content)
    assert isinstance(there.train_images, np.memmap)
    assert np.array_equal(there.train_images, data.train_images)
    assert np.array_equal(there.test_images, data.test_images)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(InputError, match=r"train_images.npy: the decoded images cannot be read on .*--data-dir"):
        pickle.loads(content)


def test_a_given_validation_split_is_retrained_on_too(no_memory: None, tmp_path: Path) -> None:
    parquet_set(tmp_path / "set", validation=True)
    data = read(tmp_path)
    settings = tiny_config().data
    train_part = DeviceData.build(data, settings, CPU, seed=0, use="retrain").train
    assert data.validation_images is not None
    assert torch.equal(train_part.images[:12], torch.from_numpy(np.array(data.train_images)))
    assert torch.equal(train_part.images[12:], torch.from_numpy(np.array(data.validation_images)))


def test_what_fits_nowhere_is_refused_in_words(
    no_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_set(tmp_path / "set")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(
        InputError, match=r"the decoded images take 11.5 kB, but 1 kB are free on this disk; choose another"
    ):
        read(tmp_path, "image_folder")


def test_only_what_counts_is_kept_on_the_disk(no_memory: None, tmp_path: Path) -> None:
    folder_set(tmp_path / "set")
    read(tmp_path, "image_folder")
    (cache,) = [path for path in (tmp_path / "data" / ".cache").iterdir() if path.is_dir()]
    kinds = ("images", "labels", "records")
    assert {file.name for file in cache.iterdir()} == {"about.json"} | {
        f"{split}_{kind}.npy" for split in ("train", "test") for kind in kinds
    }


def test_what_killed_processes_left_in_the_cache_goes(no_memory: None, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    cache = tmp_path / "data" / ".cache"
    killed, locked = (cache / f".{key}.{process.pid}" for key in ("0" * 24, "1" * 24))
    for scratch in (killed, locked):
        scratch.mkdir(parents=True)
        (scratch / "train_images.npy").touch()
        (cache / f"{scratch.stem[1:]}.lock").touch()
    parquet_set(tmp_path / "set", validation=True)
    with FileLock(cache / f"{'1' * 24}.lock"):  # by a process of another container, which decodes
        data = read(tmp_path)
    assert (killed.exists(), locked.exists()) == (False, True)
    assert data.validation_images is not None
    both = Path(str(data.train_images.filename)).with_name(f".train_and_validation_images.npy.{process.pid}")
    both.touch()
    os.utime(both, (time.time() - 3600,) * 2)
    whole = joined(data.train_images, data.validation_images)
    assert len(whole) == len(data.train_images) + len(data.validation_images)
    assert not both.exists()


def test_workers_that_need_the_joined_images_at_once_write_them_once(
    no_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet_set(tmp_path / "set", validation=True)
    data = read(tmp_path)
    train, validation = data.train_images, data.validation_images
    assert validation is not None
    write_whole = image_data.write_whole
    written: list[Path] = []

    def write_slowly(path: Path, write: Any) -> None:
        written.append(path)
        time.sleep(0.5)  # the others have looked for the file by then
        write_whole(path, write)

    monkeypatch.setattr(image_data, "write_whole", write_slowly)
    with ThreadPoolExecutor(4) as workers:
        wholes = list(workers.map(joined, [train] * 4, [validation] * 4))
    assert len(written) == 1
    assert all(np.array_equal(whole, np.concatenate([train, validation])) for whole in wholes)


def test_a_join_that_fails_leaves_nothing(no_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet_set(tmp_path / "set", validation=True)
    data = read(tmp_path)
    assert data.validation_images is not None
    folder = Path(str(data.train_images.filename)).parent
    before = set(folder.iterdir())

    def refuse(memmap: np.memmap) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np.memmap, "flush", refuse)
    with pytest.raises(OSError, match="no space left"):
        joined(data.train_images, data.validation_images)
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("device", "free", "expected"), [("cuda", 1_999, True), ("cuda", 2_000, False), ("cpu", 0, False)]
)
def test_images_that_take_half_of_a_gpus_free_memory_stay_on_the_cpu(
    device: str, free: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80_000))
    assert device_data._is_too_large(1_000, torch.device(device)) is expected


@pytest.mark.parametrize("is_too_large", [True, False])
def test_images_that_stay_on_the_cpu_are_sent_from_pinned_memory(
    is_too_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device `meta` stands in for a GPU; its tensors have no content."""
    pinned, gpu = [], torch.device("meta")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(len(tensor)) or tensor)
    monkeypatch.setattr(device_data, "_is_too_large", lambda num_bytes, device: is_too_large)
    images, labels = np.zeros((10, 4, 4, 3), np.uint8), np.zeros(10, np.int64)
    placed = device_data._place(images, labels, np.arange(10), gpu)
    assert placed.images.device.type == ("cpu" if is_too_large else "meta")
    index = torch.arange(10, device="cpu" if is_too_large else gpu)
    assert [chunk.device for chunk in placed.gathered(index.split(4))] == [gpu] * 3
    assert pinned == ([4, 4, 2] if is_too_large else [])
