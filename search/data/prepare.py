"""Prepares a data set for `winnow prepare`: downloads, converts and checks it once per machine, even if several processes start at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from winnow.search.data.image_data import ImageData, split, uses_given
from winnow.search.data.locking import locked
from winnow.search.data.reading import NO_EFFECT
from winnow.search.data.source import load, validation_rule
from winnow.search.data.summary import summarize
from winnow.search.storage.run_folder import write_text
from winnow.spaces import catalog, schema
from winnow.spaces.errors import InputError
from winnow.spaces.schema.data import KNOWN_DATA_SETS
from winnow.spaces.space import Space

RECORD = "prepared.json"  # in the data folder: data set -> fingerprint of its images when it was prepared


@dataclass(frozen=True)
class Prepared:
    """A data set after it was prepared."""

    data: ImageData
    known: bool
    """Whether it was prepared before and is unchanged."""
    lines: tuple[str, ...]
    """The summary in sentences."""


def prepare(
    name: str, overrides: Sequence[str], data_dir: Path, offline: bool, accept_change: bool = False
) -> Prepared:
    """Read a data set once, and compare it with the images that were prepared before.

    Args:
        name: A data set (`cifar10`), or a space whose data set is read.
        overrides: `path=value` settings of a space.
        data_dir: Folder of the data sets. One process at a time works there; the others wait, and then use its result.
        offline: Whether to forbid downloads.
        accept_change: Whether to accept images that differ from those prepared before. Default: False.

    Raises:
        InputError: The data are missing, or differ from those prepared before.
    """
    settings = _settings_of(name, overrides)
    record = data_dir / RECORD
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with locked(data_dir / ".prepare.lock"):
            data = load(settings, data_dir, download=not offline)
            key = _key(settings, data)
            before = _recorded(record)
            if before.get(key, data.fingerprint) != data.fingerprint and not accept_change:
                raise InputError(
                    f"{name}: the images in {settings.path or data_dir} are not those that were prepared before (fingerprint "
                    f"{data.fingerprint}, was {before[key]}); restore them, or, if the change is meant, give --accept-change"
                )
            write_text(record, json.dumps({**before, key: data.fingerprint}, indent=1, sort_keys=True))
    except OSError as error:
        raise InputError(f"{data_dir}: cannot keep a data set here ({error}); choose another --data-dir") from error
    parts = split(data, settings.validation, settings.stratified, seed=0)
    rule = validation_rule(settings, 0, uses_given(data, settings.validation))
    return Prepared(data, before.get(key) == data.fingerprint, tuple(summarize(data, parts, rule)["text"]))


def space_named(name: str, overrides: Sequence[str]) -> Space | None:
    """Return the space whose data set `prepare` reads; None if the name is that of a data set.

    Args:
        name: A data set, or a space.
        overrides: `path=value` settings of a space.
    """
    return None if name in KNOWN_DATA_SETS and not overrides else catalog.load(name, overrides)


def _recorded(record: Path) -> dict[str, str]:
    """Return the fingerprints of all data sets that were prepared before."""
    if not record.exists():
        return {}
    try:
        fingerprints = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{record}: not a readable record of data sets ({error}); restore it, or move it away"
        ) from error
    if not isinstance(fingerprints, dict):
        raise InputError(
            f"{record}: not a readable record of data sets (it is {type(fingerprints).__name__}, but must be an object); restore it, or "
            "move it away"
        )
    return fingerprints


def _settings_of(name: str, overrides: Sequence[str]) -> schema.Data:
    space = space_named(name, overrides)
    return schema.Data.model_validate({"name": name}) if space is None else space.example().data


def _key(settings: schema.Data, data: ImageData) -> str:
    """Return everything that decides which images are read, including whether the data set has a validation split."""
    facts = settings.model_dump(mode="json", exclude=NO_EFFECT, exclude_defaults=True)
    if settings.path is not None:
        facts["path"] = str(Path(settings.path).resolve())
    return json.dumps({**facts, "own_validation": data.validation_labels is not None}, sort_keys=True)
