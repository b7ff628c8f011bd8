"""`winnow prepare`: a data set downloaded, converted and checked once per machine, however many processes ask for it at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from winnow.search.data.image_data import ImageData, load
from winnow.search.storage.run_folder import write_text
from winnow.spaces import catalog, schema
from winnow.spaces.errors import InputError

RECORD = "prepared.json"  # in the data folder: what was prepared -> its fingerprint


@dataclass(frozen=True)
class Prepared:
    data: ImageData
    known: bool
    """Whether it was prepared before, and is still the same."""


def prepare(name: str, overrides: Sequence[str], data_dir: Path, offline: bool) -> Prepared:
    """`name`: a data set (`cifar10`) or a space, whose data is taken. With `offline` nothing is downloaded.

    One process at a time works in a data folder; the others wait, and find the work done. InputError if the data is not there,
    or is no longer what was prepared.
    """
    wanted = _wanted(name, overrides)
    key = wanted.model_dump_json(include={"name", "path", "image_size", "channels", "limit"}, exclude_none=True)
    record = data_dir / RECORD
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / ".prepare.lock"):
            data = load(wanted, data_dir, download=not offline)
            before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
            if before.get(key, data.fingerprint) != data.fingerprint:
                raise InputError(
                    f"{name}: the images in {wanted.path or data_dir} are not those that were prepared before (fingerprint "
                    f"{data.fingerprint}, was {before[key]}); restore them, or delete {record} if the change is meant"
                )
            write_text(record, json.dumps({**before, key: data.fingerprint}, indent=1, sort_keys=True))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{data_dir}: cannot keep a data set here ({error}); choose another --data-dir") from error
    return Prepared(data, key in before)


def _wanted(name: str, overrides: Sequence[str]) -> schema.Data:
    if name in ("digits", "cifar10", "cifar100") and not overrides:
        return schema.Data.model_validate({"name": name})
    return catalog.load(name, overrides).example().data
