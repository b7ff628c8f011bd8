"""Winnow from Python: one call searches, retrains and reports; a Run shows itself; bad settings are refused at once."""

from __future__ import annotations

import html
import inspect
import pkgutil
import re
import shlex
import sys
from typing import get_type_hints

import pytest
import ray

from tests.helpers.make_run import make_run
from winnow import reports, search
from winnow.search.api.command_line import as_command
from winnow.search.api.option_types import RunOptions, SearchOptions
from winnow.search.cli.main import cli
from winnow.search.resources.plan import DeviceOptions
from winnow.spaces.errors import InputError

TINY = "data: digits\nepochs: 2\nbatch_size: 128\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: adam, lr: {log: [0.001, 0.1]}}\n"


@pytest.mark.slow
def test_one_call_does_what_winnow_run_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr(sys, "argv", [""])  # as in a notebook
    already = ray.is_initialized()
    run = search.run(
        "tiny.yaml", ["epochs=1"], name="mine", trials=2, top=1, seeds=1, devices=DeviceOptions(num_cpus=1)
    )
    command = reports.read(run.path).study["command"]
    assert command == "winnow run tiny.yaml --name mine --trials 2 --top 1 --seeds 1 --num-cpus 1 --set epochs=1"
    assert ray.is_initialized() == already  # its own Ray ended with it
    assert list(run.trials["status"]) == ["completed"] * 2
    assert "[2/2]" in capsys.readouterr().out
    assert (run.path / "report" / "report.html").is_file()
    winner = search.load_run("mine").winner()
    assert winner.origin["rank"] == 1
    assert winner.image_shape == (1, 8, 8)
    # The normalisation lies with the weights: the data is not read again.
    assert winner.network.mean.item() == pytest.approx(0.305, abs=0.01)


def test_a_call_as_a_command():
    """Every parameter of the functions that begin or change a run is an option of their command, and comes back from it."""
    odd = {
        "overrides": {"optimizer.adam.lr": {"log": [0.01, 0.1]}},
        "devices": DeviceOptions(trials_per_gpu=2, concurrent="auto"),
    }
    odd |= {
        "log": ["tensorboard", "mlflow"],
        "objective": "validation_loss",
        "sampler": "gp",
        "reduction_factor": 2,
        "space": "my space.yaml",
        "keep_validation": True,
        "keep_predictions": True,
    }
    for name in ("run", "search", "resume", "extend"):
        function, command = getattr(search, name), cli.commands[name]
        names = list(inspect.signature(function).parameters)
        names.remove("options") if "options" in names else None
        given = {key: odd.get(key, True if key in ("download", "accept_space_change") else "4") for key in names}
        options = get_type_hints({"run": RunOptions, "search": SearchOptions}.get(name, dict))
        if options:
            given["options"] = {key: odd.get(key, 1) for key in options}
        text = as_command(name, given)
        assert text is not None
        words = shlex.split(text)
        assert words[:2] == ["winnow", name]
        parsed = command.make_context(name, words[2:]).params
        assert parsed["overrides"] == ('optimizer.adam.lr={"log": [0.01, 0.1]}',)
        assert (parsed["trials_per_gpu"], parsed["concurrent"], parsed["log"]) == (2, "auto", ("tensorboard", "mlflow"))
        assert parsed["space"] == "my space.yaml"
        for key in {*names, *options} - {"overrides", "devices", "log", "quiet"}:
            assert parsed[key] not in (None, False), key
    assert (
        as_command("search", {"space": search.load_space("digits"), "overrides": (), "devices": DeviceOptions()})
        is None
    )


def test_a_run_shows_itself(tmp_path):
    run = search.load_run(make_run(tmp_path / "a<b"))
    shown = run._repr_html_()
    assert "a&lt;b" in shown
    assert "a<b" not in shown
    assert "test accuracy (95 %)" in shown
    assert "the winner" in html.unescape(shown)
    assert shown.count("<tr>") == 1 + len(run.winners)  # a head, the winners, the baseline
    assert "<table" not in search.load_run(make_run(tmp_path / "empty", "empty"))._repr_html_()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trails": 3}, "did you mean trials"),
        ({"trials": 0}, "trials=0"),
        ({"sampler": "best"}, "sampler='best'"),
        ({"seeds": -1}, "seeds=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"overrides": "epochs=1"}, r"a list such as \['epochs=6'\]"),
        ({"overrides": {"epoks": 1}}, "did you mean epochs"),
        ({"time_budget": "soon"}, "time budget"),
    ],
)
def test_bad_settings_are_refused(settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        search.run("digits", **settings)
    assert list(tmp_path.iterdir()) == []


def test_each_command_is_a_function():
    for name in cli.commands:
        function = getattr(search, name.replace("-", "_"), None)
        assert callable(function), f"the command `{name}` has no function search.{name.replace('-', '_')}"
        assert function.__doc__
        assert "return" in inspect.get_annotations(function)


def test_no_module_takes_the_place_of_a_function():
    modules = {module.name for module in pkgutil.iter_modules(search.__path__)}
    assert not modules & set(search.__all__)
    assert all(getattr(search, name) is not None for name in search.__all__)


@pytest.mark.parametrize("name", search.__all__)
def test_every_public_name_documents_its_parameters(name):
    """A function: what it does, each parameter, what it returns and raises. A class: what it is."""
    value = getattr(search, name)
    text = inspect.getdoc(value) or ""
    assert text.splitlines()[0].endswith(".")
    if inspect.isclass(value):
        return
    for parameter in inspect.signature(value).parameters:
        assert re.search(rf"^    \**{parameter}: \S", text, re.MULTILINE), parameter
    returns = inspect.get_annotations(value)["return"]
    assert "Returns:" in text or returns == "None" or "Args:" not in text
    assert "Raises:" in text or name == "spaces"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: search.load_space(3), "a name, a path or a Space, but got int"),
        (lambda run: search.load_space("digitz"), "did you mean digits"),
        (lambda run: search.resume("nothing"), "no run here"),
        (lambda run: search.extend(run), "give trials, time_budget or max_epochs"),
        (lambda run: search.extend(run, trials=0), "trials=0"),
        (lambda run: search.resume(run, space="digitz"), "did you mean digits"),
        (lambda run: search.retrain("nothing"), "no run here"),
        (lambda run: search.retrain(run, top=0), "top=0"),
        (lambda run: search.report("nothing"), "no run here"),
        (lambda run: search.show(run, where="nonsense"), "nonsense"),
        (lambda run: search.compare(run), "needs at least two runs"),
        (lambda run: search.rerun(run, 999), "--trial 999"),
        (lambda run: search.plan("digits", trials=0), "trials=0"),
        (lambda run: search.export(run, 99), "99"),
        (lambda run: search.predict(run.path, "photo.jpg"), "no exported winner here"),
        (lambda run: search.train("digits"), "not a recipe"),
        (lambda run: search.bench_recipes(["nothing"]), "no recipe"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_raises(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = search.load_run(make_run(tmp_path / "runs" / "mine"))
    with pytest.raises(InputError, match=words):
        call(run)


def test_looking_at_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one, _ = (search.load_run(make_run(tmp_path / "runs" / name)) for name in ("one", "other"))
    search.show(one, trial=0)
    search.show("one", where="objective > 0.5", sort="-objective")
    assert "trial 0" in capsys.readouterr().out
    held = search.compare(one, "other")
    assert held.comparable
    assert list(held.runs["run"]) == ["one", "other"]
    assert "<table" in held._repr_html_()
    shorter = search.load_run(make_run(tmp_path / "runs" / "shorter"))
    study = (shorter.path / "study.yaml").read_text()
    (shorter.path / "study.yaml").write_text(study.replace("fingerprint: ", "fingerprint: other-"))
    refused = search.compare(one, shorter)._repr_html_()
    assert "cannot be compared" in refused
    assert "data fingerprint: 0123456789abcdef (one), other-0123456789abcdef (shorter)" in refused
    assert search.report(one) == one.path / "report" / "report.html"
    assert search.spaces()["digits"]
    assert search.load_space("digits", {"epochs": 3, "optimizer.adam.lr": {"log": [0.01, 0.1]}}).max_epochs == 3
