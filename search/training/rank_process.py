"""A rank beside rank 0, a process of its own: `python -m search.training.rank_process FD RANK COUNT PORT DEVICE THREADS`.

It is told through a pipe what to train, and trains its part of every batch, epoch by epoch, when it is told to. It ends with rank 0.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from multiprocessing.connection import Connection

import torch
from torch import distributed

from search.training.data import ImageData
from search.training.loop import Training
from search.training.pipeline import DeviceData
from search.training.ranks import HOST, Rank, device_of, join
from search.worker import is_out_of_memory


def main(descriptor: int, index: int, count: int, port: int, kind: str, threads: int) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    rank, connection = Rank(index, count), Connection(descriptor)
    torch.set_num_threads(threads)
    if kind == "cuda":
        torch.cuda.set_device(index)
    try:
        join(distributed.TCPStore(HOST, port, count, is_master=False), rank, kind)
        _obey(connection, rank, device_of(rank, kind))
    except EOFError:  # rank 0 has closed its end
        return
    except (Exception, SystemExit) as error:
        words = "out_of_memory" if is_out_of_memory(error) else "failed"
        connection.send_bytes(pickle.dumps((words, f"{type(error).__name__}: {error}")))


def _obey(connection: Connection, rank: Rank, device: torch.device) -> None:
    data: ImageData | None = None
    training: Training | None = None
    while True:
        message = pickle.loads(connection.recv_bytes())
        if message[0] == "begin":
            _, images, task = message
            data, training = images or data, None
            assert data is not None  # the first training brings them
            on_device = DeviceData.build(data, task.config.data, device, task.split_seed, task.use)
            training = Training.start(task.config, on_device, device, task.seed, rank, task.micro_batches)
            if task.checkpoint is not None:
                training.restore(task.checkpoint)
        else:
            assert training is not None  # no epoch without a beginning
            training.follow_epoch(lr_scale=message[1])


def _end_with(parent: int) -> None:
    """Rank 0 may be killed while this process waits for it in NCCL, where nothing else would wake it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    of_pipe, of_rank, num_ranks, of_store = (int(word) for word in sys.argv[1:5])
    main(of_pipe, of_rank, num_ranks, of_store, sys.argv[5], int(sys.argv[6]))
