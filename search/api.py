"""Winnow from Python: the same functions as the commands, for scripts and notebooks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

import reports
from search.folder import open_run
from search.settings import settings_for
from search.winner import Winner, load_winner
from spaces import catalog
from spaces.errors import InputError
from spaces.problems import nearest
from spaces.schema import RetrainSettings, SearchSettings
from spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

    from search.devices import Devices


class SearchFailed(RuntimeError):
    """The search stopped since its trials all ended with the same error; the message is its traceback."""


@dataclass(frozen=True)
class Run:
    """A run folder to look at; a notebook shows its summary and its winners."""

    path: Path

    def table(self, name: str = "trials") -> pd.DataFrame:
        """A table of docs/reports.md, read from the run as it is now."""
        frame: pd.DataFrame = reports.read(self.path).table(name).to_pandas()
        return frame

    @property
    def trials(self) -> pd.DataFrame:
        return self.table("trials")

    @property
    def winners(self) -> pd.DataFrame:
        return self.table("winners")

    @property
    def report(self) -> Path:
        """The HTML report, written anew."""
        return reports.write(self.path)

    def winner(self, rank: int = 1) -> Winner:
        """A retrained network, ready to predict."""
        return load_winner(self.path, rank)

    def _repr_html_(self) -> str:
        from reports.summary import sentences

        data = reports.read(self.path)
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(data))
        columns = [
            "rank",
            "trial",
            "test_accuracy",
            "test_accuracy_low",
            "test_accuracy_high",
            "gain",
            "num_parameters",
        ]
        winners = data.winners.select(columns).to_pandas()
        table = winners.to_html(index=False, na_rep="", border=0) if len(winners) else ""
        return f"<h3>{escape(data.name)}</h3>{said}{table}"


def run(
    space: Space | str | Path,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    runs_dir: Path | str = "runs",
    data_dir: Path | str = "data",
    download: bool = False,
    devices: Devices | None = None,
    address: str | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Search, retrain the winners, report: what `winnow run` does.

    `space` and `overrides` are as on the command line (`"digits"`, `["epochs=6"]`); `settings` are its options: `trials`,
    `time_budget` ("5m"), `objective`, `sampler`, `grace_epochs`, `reduction_factor`, `seed`, `top`, `seeds`. InputError for bad
    input, SearchFailed, or KeyboardInterrupt: what was done until then is kept and `winnow resume` goes on with it.
    """
    from rich.console import Console

    from search import operations
    from search.devices import Devices
    from search.progress import make_view

    searched = space if isinstance(space, Space) else catalog.load(space, overrides)
    chosen = settings_for(searched, **_checked(settings))
    devices = devices or Devices()
    with _one_ray(), make_view(Console(), quiet) as view:
        folder, outcome = operations.search(
            searched,
            chosen,
            runs_dir=Path(runs_dir),
            name=name,
            source=operations.Source(Path(data_dir), download),
            devices=devices,
            view=view,
            address=address,
        )
        if outcome.bug:
            raise SearchFailed(outcome.bug)
        if outcome.interrupted:
            raise KeyboardInterrupt(f"go on with: winnow resume {folder.path}")
        operations.retrain(folder, devices=devices, view=view, address=address)
    reports.write(folder.path)
    return Run(folder.path)


def load_run(path: Path | str) -> Run:
    """An existing run, by its path or by its name under runs/."""
    return Run(open_run(path).path)


def _one_ray() -> AbstractContextManager[None]:
    """One Ray for search and retraining. A Ray that a notebook started itself is left running."""
    from search.session import ray_kept

    ray = sys.modules.get("ray")  # imported by us it would come without our settings
    return nullcontext() if ray is not None and ray.is_initialized() else ray_kept()


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, held against the schema: on the command line click has done that."""
    known = inspect.signature(settings_for).parameters.keys() - {"space"}
    for key in settings:
        if key not in known:
            raise InputError(f"run: no setting {key!r}{nearest(key, known)}; there are {', '.join(sorted(known))}")
    try:
        for schema in (SearchSettings, RetrainSettings):
            schema.model_validate({k: v for k, v in settings.items() if k in schema.model_fields and v is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"run: {problem['loc'][0]}={problem['input']!r}: {problem['msg']}") from error
    return settings
