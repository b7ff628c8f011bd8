"""What was read of the images is in the report: sentences, counts by class, a table, and what a majority would reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.html.sections import data as data_section
from winnow.reports.text.summary import sentences


def changed(folder: Path, **summary: Any) -> Path:
    """The run with another summary of its images; without keys, with none, as of an older Winnow."""
    study = yaml.safe_load((folder / "study.yaml").read_text())
    before = study["data"].pop("summary")
    if summary:
        study["data"]["summary"] = {**before, **summary}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_the_table_holds_every_class_of_every_split(folder: Path) -> None:
    rows = reports.read(folder).table("data").to_pylist()
    assert [(row["split"], row["class"]) for row in rows] == [
        (s, k) for s in ("train", "validation") for k in range(10)
    ]
    assert sum(row["num_images"] for row in rows) == 1150 + 287
    assert sum(row["share"] for row in rows) == pytest.approx(2)
    assert {(row["height"], row["width"], row["channels"]) for row in rows} == {(8, 8, 1)}
    assert {row["files_num_sizes"] for row in rows} == {None}


def test_every_sentence_is_in_a_table(folder: Path) -> None:
    repeated = {"equal_files": 1, "equal_pixels": 2}
    run = reports.read(changed(folder, repeated=repeated, traits={"grey, taken as colour": {"train": 3}}))
    values = {(row["section"], row["key"]): row["value"] for row in run.table("environment").to_pylist()}
    assert json.loads(values["data", "summary.text"]) == run.study["data"]["summary"]["text"]
    assert json.loads(values["data", "summary.repeated"]) == repeated
    assert json.loads(values["data", "summary.traits"]) == {"grey, taken as colour": {"train": 3}}


def test_the_section_says_what_was_read_and_obeys_no_markup(folder: Path) -> None:
    section = data_section(reports.read(folder))
    assert section is not None
    assert "<li>digits: 1,150 train, 287 validation images of 10 classes</li>" in section.html
    assert "&lt;b&gt;1 file&lt;/b&gt;" in section.html
    assert "<td" in section.html


def test_a_run_of_an_older_winnow_has_neither(folder: Path) -> None:
    run = reports.read(changed(folder))
    assert data_section(run) is None
    assert run.table("data").num_rows == 0


def test_what_the_largest_class_would_reach_stands_beside_the_accuracy(folder: Path) -> None:
    sentence = "Always predicting the largest class would reach a test accuracy of"
    assert f"{sentence} 10.00 %." in " ".join(sentences(reports.read(folder))).replace("\xa0", " ")
    text = " ".join(sentences(reports.read(changed(folder, majority_share=0.917)))).replace("\xa0", " ")
    assert f"{sentence} 91.70 %." in text
