"""Winnow from Python: one call searches, retrains and reports; a Run shows itself; bad settings are refused at once."""

from __future__ import annotations

import html

import pytest
import ray

import search
from search.devices import Devices
from spaces.errors import InputError
from tests.make_run import make_run

TINY = "data: digits\nepochs: 2\nbatch_size: 128\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: adam, lr: {log: [0.001, 0.1]}}\n"


def test_one_call_does_what_winnow_run_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    run = search.run("tiny.yaml", ["epochs=1"], name="mine", trials=2, top=1, seeds=1, devices=Devices(num_cpus=1))
    assert not ray.is_initialized()
    assert list(run.trials["status"]) == ["completed"] * 2
    assert "[2/2]" in capsys.readouterr().out
    assert (run.path / "report" / "report.html").is_file()
    winner = search.load_run("mine").winner()
    assert winner.origin["rank"] == 1
    assert winner.image_shape == (1, 8, 8)
    # The normalisation lies with the weights: the data is not read again.
    assert winner.network.mean.item() == pytest.approx(0.305, abs=0.01)


def test_a_run_shows_itself(tmp_path):
    run = search.load_run(make_run(tmp_path / "a<b"))
    shown = run._repr_html_()
    assert "a&lt;b" in shown
    assert "a<b" not in shown
    assert "test_accuracy" in shown
    assert "the winner" in html.unescape(shown)
    assert "<table" not in search.load_run(make_run(tmp_path / "empty", "empty"))._repr_html_()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trails": 3}, "did you mean trials"),
        ({"trials": 0}, "trials=0"),
        ({"sampler": "best"}, "sampler='best'"),
        ({"seeds": -1}, "seeds=-1"),
        ({"time_budget": "soon"}, "time budget"),
    ],
)
def test_bad_settings_are_refused(settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        search.run("digits", **settings)
    assert list(tmp_path.iterdir()) == []
