"""The queries of docs/eight-questions.md run, and each gives an answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from winnow import reports, search

TEXT = (REPOSITORY / "docs" / "eight-questions.md").read_text(encoding="utf-8")
QUERIES = {
    section.splitlines()[0]: re.findall(r"```sql\n(.*?)```", section, re.S) for section in TEXT.split("\n## ")[1:]
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("questions") / "r", trials=40, seed=1)


def test_there_are_eight_with_a_query_each():
    assert [title[:2] for title in QUERIES] == [f"{number}." for number in range(1, 9)]
    assert all(len(queries) == 1 for queries in QUERIES.values())


@pytest.mark.parametrize("title", QUERIES)
def test_the_query_gives_an_answer(title, run):
    sql = QUERIES[title][0].replace("trial = 5", "trial = 0")  # number 5 failed in its first epoch here
    assert len(search.query(run, sql)) > 0


def test_the_answers_are_right(run):
    read = reports.read(run)
    (winner,) = search.query(run, QUERIES["4. How was the winner trained?"][0]).to_dict("records")
    assert winner["trial"] == next(row["trial"] for row in read.winner_rows() if row["rank"] == 1)
    curve = search.query(run, QUERIES["2. What does a point of accuracy cost?"][0])
    assert curve["best"].is_monotonic_increasing
    assert curve["best"].iloc[-1] == max(row["best_objective"] for row in read.trial_rows() if row["best_objective"])
    mistakes = search.query(run, QUERIES["3. Which images are wrong?"][0])
    rows = [row for row in read.table("predictions").to_pylist() if row["rank"] == 1 and not row["correct"]]
    assert mistakes["times_wrong"].sum() == len(rows)
    failed = search.query(run, QUERIES["6. What did failed trials die of?"][0])
    assert failed["trials"].sum() == len(
        [row for row in read.table("failures").to_pylist() if row["phase"] == "search"]
    )
