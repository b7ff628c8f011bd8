"""Creates the tables of a run from the records in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from winnow.reports.run_data import Row, RunRecords
from winnow.reports.tables.retraining import retrain_rows, winner_rows
from winnow.reports.tables.trials import epochs_of_trial, trial_rows

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class FromFolder:
    """A `TableSource` over the records of a run folder. Rows do not need Arrow, so `winnow show` responds at once."""

    records: RunRecords

    def table(self, name: str) -> pa.Table:
        from winnow.reports.tables.build import table

        return table(self.records, name)

    def trial_rows(self) -> list[Row]:
        return trial_rows(self.records)

    def epochs_of_trial(self, number: int) -> list[Row]:
        return epochs_of_trial(self.records, number)

    def winner_rows(self) -> list[Row]:
        return winner_rows(self.records)

    def retrain_rows(self) -> list[Row]:
        return retrain_rows(self.records)
