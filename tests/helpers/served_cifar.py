"""CIFAR-10 and CIFAR-100 made up and small: on a server of this machine, in their original layout, and as Parquet shards."""

from __future__ import annotations

import pickle
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from tests.helpers.layouts import pictures, write_shard

NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
FILES = {"cifar10": ("data_batch_1", "test_batch", "batches.meta"), "cifar100": ("train", "test", "meta")}
KEYS = {"cifar10": ("labels", "label_names"), "cifar100": ("fine_labels", "fine_label_names")}
# Nothing but the addresses and the checksums is put in its place, and that when the images are read: torchvision is slow to import.
PREAMBLE = """
from winnow.search.data.datasets import DATASETS

def served(read, name, train, test):
    def reader(*arguments):
        import torchvision.datasets
        kind = getattr(torchvision.datasets, name.upper())
        kind.url, kind.tgz_md5 = "http://127.0.0.1:{port}/" + name + ".tar.gz", None
        kind.train_list, kind.test_list = [(train, None)], [(test, None)]
        kind.meta = kind.meta | {{"md5": None}}
        return read(*arguments)
    return reader

for name, (train, test, _) in {files!r}.items():
    DATASETS[name] = served(DATASETS[name], name, train, test)
"""


@dataclass
class Served:
    preamble: str = ""
    """Python to run in the process that downloads, before it does."""
    requests: list[str] = field(default_factory=list)


@contextmanager
def served_cifar(folder: Path, per_class: int = 8) -> Iterator[Served]:
    """Both data sets, with `per_class` training images of each class and two to test on."""
    for name in NUM_CLASSES:
        _write_archive(folder, name, per_class)
    served = Served()

    class Counting(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Method"] == "HEAD":  # so torchvision asks for redirects first
                self.do_HEAD()
                return
            served.requests.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Counting, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.preamble = PREAMBLE.format(port=server.server_port, files=FILES)
        yield served
        server.shutdown()


def write_parquet(folder: Path, name: str, per_class: int = 8) -> Path:
    """As on Hugging Face: `folder` with a shard to train on and one to test on."""
    names = [f"class{k}" for k in range(NUM_CLASSES[name])]
    for seed, (part, each) in enumerate({"train": per_class, "test": 2}.items()):
        labels = np.arange(len(names) * each) % len(names)
        images = pictures(len(labels), seed, size=(32, 32))
        write_shard(folder / f"{part}-00000-of-00001.parquet", list(images), labels.tolist(), names)
    return folder


def _write_archive(folder: Path, name: str, per_class: int) -> None:
    inside = folder / FOLDERS[name]
    inside.mkdir(parents=True)
    train, test, meta = FILES[name]
    labels_key, names_key = KEYS[name]
    for seed, (file, each) in enumerate({train: per_class, test: 2}.items()):
        labels = np.arange(NUM_CLASSES[name] * each) % NUM_CLASSES[name]
        flat = pictures(len(labels), seed, size=(1, 1024)).reshape(-1, 3072)
        (inside / file).write_bytes(pickle.dumps({"data": flat, labels_key: labels.tolist()}))
    (inside / meta).write_bytes(pickle.dumps({names_key: [f"class{k}" for k in range(NUM_CLASSES[name])]}))
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(inside, arcname=inside.name)
