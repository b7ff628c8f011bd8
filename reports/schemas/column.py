"""The schema of a column and of a table, and the columns that several tables have."""

from __future__ import annotations

from dataclasses import dataclass

from winnow.spaces.gpu_facts import GPU_FACTS


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: str
    """Its type, a key of `KINDS`."""
    meaning: str
    unit: str = ""
    null: str | None = None
    """When the value is null; None if it never is."""


@dataclass(frozen=True)
class TableSchema:
    """One table."""

    row: str
    """The meaning of one row."""
    columns: tuple[Column, ...]
    parameters: bool = False
    """Whether the last columns are the parameters of the space, named by config path."""


KINDS: dict[str, str] = {
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "string": "string",
    "time": "timestamp[us, UTC]",
    "bytes": "binary",
    "floats": "list of float32",
}

RUN = Column("run", "string", "name of the run")
SEED = Column("seed", "int", "seed of this training")
NUM_PARAMETERS = Column(
    "num_parameters", "int", "trainable parameters (weights and biases) of the network", "parameters", "not built yet"
)
IMAGE_NAME = Column("image_name", "string", "file of the image, or its row in the data set", null="not recorded")
NODE = Column("node", "string", "host name", null="not recorded")
GPU = tuple(Column(f.name, f.kind, f.meaning, f.unit, "no GPU, or not recorded") for f in GPU_FACTS)
