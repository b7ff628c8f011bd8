"""The HTML report: the data behind each figure, the page, and how it behaves in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape as markup_escape

from tests.helpers.make_run import NUM_TEST, RUNGS, Stage, make_run
from winnow import reports
from winnow.reports.figures import cost as figures_cost
from winnow.reports.figures import learning_curves as figures_search
from winnow.reports.figures import parameters as figures_parameters
from winnow.reports.figures import progress as figures_progress
from winnow.reports.figures import winners as figures_winners
from winnow.reports.figures.style import DARK_PAGE, LIGHT_PAGE, STATUS_COLORS, STATUS_SYMBOLS
from winnow.reports.html import gallery, sections
from winnow.reports.html.page import page
from winnow.reports.html.sections import sections_of
from winnow.reports.reading.parquet_reader import FromParquet
from winnow.reports.reading.run import read_records
from winnow.reports.statuses import STATUSES
from winnow.reports.text import glossary, summary
from winnow.reports.text.glossary import GLOSSARY
from winnow.reports.visible import visible

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    return reports.read(make_run(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    """A run whose objective is minimized."""
    return reports.read(make_run(tmp_path_factory.mktemp("runs") / "losses", "searched", objective="validation_loss"))


@pytest.fixture(scope="module")
def html_file(run: reports.RunData) -> Path:
    return reports.write(run.path)


# --- the data behind the figures -------------------------------------------------------------------------------------


def test_best_so_far_never_gets_worse(run: reports.RunData, losses: reports.RunData) -> None:
    info = figures_progress._best_info(run)
    completed = [row["objective"] for row in run.trials.to_pylist() if row["status"] == "completed"]
    known = [value for value in info.best if value is not None]
    assert known == sorted(known)
    assert set(known) <= set(completed)
    assert info.best[-1] == max(completed)
    assert info.best[0] is None  # no trial completes in its first epoch
    assert info.seconds == sorted(info.seconds)
    assert info.seconds[0] > 0
    assert len(info.values) == sum(run.trials.column("num_epochs").to_pylist())
    rows = [row for row in run.rows("epochs") if row["phase"] == "search"]
    assert info.device == "CPU", "no GPU was held"
    assert info.device_seconds[-1] == pytest.approx(sum(2.0 * row["wall_seconds"] for row in rows))
    (figure,) = figures_progress.best_so_far(run)
    buttons = figure.plot.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["by time", "by epochs", "by CPU-hours"]
    for button in buttons:
        assert [len(x) for x in button.args[0]["x"]] == [len(trace.y) for trace in figure.plot.data]
    assert list(figure.plot.data[-1].x) == list(buttons[0].args[0]["x"][-1])
    falling = [value for value in figures_progress._best_info(losses).best if value is not None]
    assert falling == sorted(falling, reverse=True)


def test_learning_curves_hold_every_trial_that_finished_an_epoch(run: reports.RunData) -> None:
    info = figures_search._curves_info(run)
    assert info.rungs == RUNGS
    for trial in read_records(run.path).study_trials:
        if trial.intermediate_values:
            epochs, values = info.curves[trial.user_attrs["status"]][trial.number]
            assert dict(zip(epochs, values, strict=True)) == trial.intermediate_values
    for epochs, _ in info.curves["stopped"].values():
        assert epochs[-1] in RUNGS


def test_budget_counts_every_epoch_once(run: reports.RunData) -> None:
    info = figures_search._budget_info(run)
    assert info.stretches == ["epoch 1", "epochs 2 to 3", "epochs 4 to 9", "epochs 10 to 20"]
    assert sum(map(sum, info.epochs.values())) == sum(run.trials.column("num_epochs").to_pylist())
    assert info.epochs["completed"][-1] == 11 * info.num_reached[-1]


def test_importance_bars_say_how_many_trials(run: reports.RunData) -> None:
    info = figures_parameters._importance_info(run)
    assert info.importances == sorted(info.importances, reverse=True)
    shown = dict(zip(info.labels, info.num_trials, strict=True))
    scored = [trial for trial in read_records(run.path).study_trials if trial.number in _scored(run)]
    assert shown["optimizer.sgd.lr"] == sum("optimizer.sgd.lr" in trial.params for trial in scored)
    assert len(info.labels) + info.left_out == len(run.space.parameters())
    figure = figures_parameters.importance(run)[0].plot
    few = figures_parameters.FEW_TRIALS
    bars, texts = figure.data[::2], figure.data[1::2]
    assert sorted(text.strip() for each in texts for text in each.text) == sorted(f"n={n}" for n in info.num_trials)
    well, thin = bars if len(bars) == 2 else (bars[0], None)
    assert (min(info.num_trials) < few) == (thin is not None or max(info.num_trials) < few)
    assert list(well.error_x.array) == [
        deviation
        for deviation, n in reversed(list(zip(info.deviations, info.num_trials, strict=True)))
        if n >= few or thin is None
    ]
    assert thin is None or thin.visible == "legendonly"


def test_terms_explain_themselves(run: reports.RunData) -> None:
    html = page(run)
    for term, meaning in GLOSSARY.items():
        assert f"<dt>{term}</dt><dd>{markup_escape(meaning)}</dd>" in html
    assert f'<abbr title="{markup_escape(GLOSSARY["gap"])}">gap</abbr></th>' in html
    assert html.count('class="caption"><abbr') + html.count("</abbr>") > 20


@given(
    st.lists(st.sampled_from([*GLOSSARY, "Rungs", "arung", "front-end", " ", "<b>", ", "]), max_size=12).map("".join)
)
def test_a_text_is_the_same_with_its_terms_explained(text: str) -> None:
    pieces = glossary.parts(text)
    assert "".join(piece for piece, _ in pieces) == text
    meanings = [meaning for _, meaning in pieces if meaning is not None]
    assert len(meanings) == len(set(meanings))


def _scored(run: reports.RunData) -> set[int]:
    return {row["trial"] for row in figures_parameters.scored_trials(run)}


def test_slices_are_logarithmic_where_the_domain_is(run: reports.RunData) -> None:
    by_title = {figure.title: figure.plot for figure in figures_parameters.slices(run)[0]}
    assert by_title["optimizer.lr"].layout.xaxis.type == "log"
    assert by_title["model.dropout"].layout.xaxis.type == "linear"
    assert by_title["model.activation"].layout.xaxis.type == "category"
    info = figures_parameters._slice_info(run, "optimizer.momentum")
    assert len(info.x) == sum(row["optimizer.name"] == "sgd" for row in figures_parameters.scored_trials(run))


def test_the_learning_rate_has_a_slice_before_its_branches_have_an_importance(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "short", "searched", trials=12))
    of_rate = [row["importance"] for row in run.rows("importance") if row["path"] == "optimizer.lr"]
    assert of_rate == [None] * 3
    figures, left_out = figures_parameters.slices(run)
    assert len(figures) == figures_parameters.MAX_SLICES
    assert "optimizer.lr" in [figure.title for figure in figures]
    assert f"Shown are the {len(figures)} most important of {len(figures) + left_out} parameters" in page(run)


def test_parallel_coordinates_put_what_is_not_active_below_the_axis(run: reports.RunData) -> None:
    rows = figures_parameters.scored_trials(run)
    axis = figures_parameters._axis(run, "optimizer.momentum", rows)
    assert [position is None for position in axis.positions] == [row["optimizer.name"] != "sgd" for row in rows]
    dimension = figures_parameters._dimension(axis)
    known = [position for position in axis.positions if position is not None]
    assert dimension["ticktext"][0] == "-"
    assert dimension["tickvals"][0] == min(dimension["values"]) < min(known)
    options = figures_parameters._axis(run, "model.head", rows)
    assert list(options.ticks.values()) == ["[]", "[64]", "[128]"]


def test_cost_front_is_what_no_cheaper_trial_beats(run: reports.RunData, losses: reports.RunData) -> None:
    for one, better in ((run, max), (losses, min)):
        info = figures_cost._cost_info(one, lambda row: row["num_parameters"])
        for i in range(len(info.cost)):
            cheaper = [info.objective[j] for j in range(len(info.cost)) if info.cost[j] <= info.cost[i]]
            on_front = info.objective[i] == better(cheaper)
            same = any(info.cost[i] == info.cost[j] and info.objective[i] == info.objective[j] for j in info.front)
            beaten = any(
                info.objective[j] == info.objective[i] and info.cost[j] < info.cost[i] for j in range(len(info.cost))
            )
            assert same == (on_front and not beaten)


def test_winners_figure_holds_means_ends_and_seeds(run: reports.RunData) -> None:
    info = figures_winners._winners_info(run)
    assert info.labels[-1] == "baseline"
    assert [len(seeds) for seeds in info.seeds] == [3, 3, 2, 3]
    for row, mean, below, above, seeds in zip(
        run.winners.to_pylist(), info.means, info.below, info.above, info.seeds, strict=True
    ):
        assert mean == pytest.approx(np.mean(seeds))
        assert mean - below == pytest.approx(row["test_accuracy_low"])
        assert mean + above == pytest.approx(row["test_accuracy_high"])


def test_confusion_counts_the_winners_predictions(run: reports.RunData) -> None:
    info = figures_winners._confusion_info(run)
    assert info.counts.sum() == 3 * NUM_TEST
    first = [row for row in run.predictions.to_pylist() if row["rank"] == 1]
    assert np.trace(info.counts) == sum(row["correct"] for row in first)
    np.testing.assert_allclose(info.shares.sum(axis=1), 1)


def test_gallery_shows_the_most_confident_mistakes(run: reports.RunData) -> None:
    mistakes = gallery.winner_mistakes(run)
    assert [m.confidence for m in mistakes] == sorted((m.confidence for m in mistakes), reverse=True)
    assert all(m.true != m.predicted and m.image.startswith(b"\x89PNG") for m in mistakes)
    html = sections.test_images(run).html
    assert html.count('src="data:image/png;base64,') == len(mistakes) > 3
    assert all(f"{m.true} predicted as {m.predicted}" in html for m in mistakes)


# --- the page --------------------------------------------------------------------------------------------------------


def test_page_is_one_file_without_addresses(html_file: Path) -> None:
    assert html_file.stat().st_size < 8_000_000
    text = html_file.read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    own = text[: text.index("plotly.js v")]
    assert not re.search(r"https?://", own)
    assert "default-src 'none'" in own


def test_page_needs_nothing_but_the_parquet_files(run: reports.RunData, html_file: Path) -> None:
    """Every figure, table and sentence: the page made from `report/*.parquet` alone is the same page."""
    alone = reports.read(html_file.parent)
    assert isinstance(alone.source, FromParquet)
    minute = re.compile(r"this page was made [\d: -]+ UTC")
    assert minute.sub("", page(alone)) == minute.sub("", page(run))
    assert page(alone).count('"type":"scatter"') > 15


def test_page_says_how_trials_ended_and_what_won(run: reports.RunData) -> None:
    text = " ".join(summary.sentences(run))
    assert "24 trials: 4 completed, 16 stopped early, 1 diverged, 1 out of memory, 1 failed, 1 skipped." in text
    winner = run.winners.to_pylist()[0]
    assert f"{100 * winner['test_accuracy']:.2f}" in text
    assert f"{100 * winner['gain']:.2f} points above the baseline" in text
    assert f"{100 * winner['gain_low']:+.2f} to {100 * winner['gain_high']:+.2f}" in text
    assert "search-to-retrain gap" in text


def test_text_of_a_run_cannot_become_markup(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "searched")
    study = (folder / "study.yaml").read_text().replace("name: run", "name: <script>alert(1)</script> $$title", 1)
    (folder / "study.yaml").write_text(study)
    text = page(reports.read(folder))
    assert "<script>alert(1)" not in text
    assert "<b>worker</b>" not in text
    assert "&lt;b&gt;worker&lt;/b&gt; died" in text


ODD_NAMES = (
    "<b>bold</b>",
    "a & b",
    "&lt;",
    '"quo\'ted"',
    "<br>",
    "bell\x07",
    "two\nlines",
    "mark\u202eed",
    "<script>",
    "$x^2$",
)
SHOWN_NAMES = ("<b>bold</b>", "a & b", "&lt;", "\"quo'ted\"", "<br>", "bell\u2407", "two\u240alines", "mark\\u202eed", "<script>", "$x^2$")  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    """A run whose classes have names that HTML or Plotly could take for something else."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "odd")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["data"]["class_names"] = list(ODD_NAMES)
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return reports.read(folder)


def test_odd_class_names_are_shown_as_they_are(odd: reports.RunData) -> None:
    figures = {figure.id: figure.plot for figure in figures_winners.confusion(odd)}
    for names in (figures["confusion"].data[0].x, figures["confusion"].data[0].y):
        assert tuple(map(unescape, names)) == SHOWN_NAMES
        assert not any("<" in name for name in names)
    assert sorted(map(unescape, figures["per-class"].data[0].y)) == sorted(SHOWN_NAMES)
    html = str(sections.test_images(odd).html)
    for name in {mistake.true for mistake in gallery.winner_mistakes(odd)}:
        assert f"<p>{escape(visible(name), quote=False)} predicted as" in html.replace("&#34;", '"').replace(
            "&#39;", "'"
        )
    assert "<b>bold" not in html
    assert "<script>" not in html


def test_hidden_characters_become_visible() -> None:
    assert visible("a\tb\nc\x00\x1b[1m\x7f\x85\ud800é") == "a\tb\nc\u2400\u241b[1m\u2421\\u0085\\ud800é"


@pytest.mark.parametrize("stage", ["empty", "first_epoch", "searching", "searched"])
def test_page_of_a_run_that_was_cut_short(tmp_path: Path, stage: Stage) -> None:
    folder = make_run(tmp_path / stage, stage, torn=stage != "empty")
    text = reports.write(folder).read_text(encoding="utf-8")
    assert all(f'id="{section.id}"' in text for section in sections_of(reports.read(folder)))
    assert "Audit of the stops" not in text
    assert "No winner was retrained yet" in text
    assert (folder / "report" / "winner.yaml").exists() == (stage != "empty")
    if stage == "searching":
        assert "24 trials were asked for" in text
    if stage != "empty":
        assert "the last line of epochs.jsonl is torn" in text
    assert not [path for path in (folder / "report").iterdir() if path.name.startswith(".")]


def test_page_of_a_minimized_loss(losses: reports.RunData) -> None:
    ranked = [row for row in losses.trials.to_pylist() if row["status"] == "completed"]
    best = min(ranked, key=lambda row: row["objective"])
    assert f"trial {best['trial']} with a validation loss of {best['objective']:.4g}" in " ".join(
        summary.sentences(losses)
    )
    assert "validation loss" in page(losses)


def test_winner_config_is_a_recipe(run: reports.RunData, html_file: Path) -> None:
    from winnow.spaces import catalog

    recipe = catalog.load(str(html_file.with_name("winner.yaml")))
    assert recipe.is_recipe
    config = recipe.config(recipe.tree)
    assert config.model_dump(mode="json") == json.loads(run.winners.to_pylist()[0]["config"])


def test_colors_read_on_light_and_dark() -> None:
    assert set(STATUS_COLORS) == set(STATUS_SYMBOLS) == set(STATUSES)
    for color in STATUS_COLORS.values():
        assert min(_contrast(color, LIGHT_PAGE), _contrast(color, DARK_PAGE)) >= 3
    css = (Path(reports.__file__).parent / "html" / "page.css").read_text()
    assert f"--page: {LIGHT_PAGE}" in css
    assert f"--page: {DARK_PAGE}" in css
    themes = [dict(re.findall(r"--(\S+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)]
    assert len(themes) == 2
    for theme in themes:
        for ink, paper in (("text", "page"), ("soft", "page"), ("accent", "page"), ("soft", "raised"), ("accent", "raised"), ("text", "warn-page")):  # fmt: skip
            assert _contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper, theme)


def _contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""
    low, high = sorted(_luminance(color) for color in (a, b))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# --- in a browser ----------------------------------------------------------------------------------------------------

PROBE = """
<script>
window.seen = [];
window.addEventListener("error", (event) => window.seen.push("error: " + event.message));
window.addEventListener("unhandledrejection", (event) => window.seen.push("rejection: " + event.reason));
document.addEventListener("securitypolicyviolation", (event) => window.seen.push("blocked: " + event.blockedURI));
for (const level of ["error", "warn"]) console[level] = (...words) => window.seen.push(level + ": " + words.join(" "));
</script>
"""
INTERACT = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const curves = document.querySelector('[data-figure="learning-curves"]');
  const item = curves && curves.querySelector(".legendtoggle");
  const parallel = document.querySelector('[data-figure="parallel"]');
  const named = (text) => [...document.querySelectorAll("button")].filter((button) => button.textContent === text);
  named("Show all values")[0].click();
  Plotly.restyle(parallel, { "dimensions[1].constraintrange": [[0, 0.5]] }).then(() => {
    window.selected = parallel.data[0].dimensions[1].constraintrange.flat();
    named("Clear the selection")[0].click();
  });
  const finish = () => {
    const result = {
      seen: window.seen,
      drawn: [...document.querySelectorAll("[data-figure]")].map((e) => [e.dataset.figure, e.querySelectorAll(".main-svg").length]),
      pressed: document.querySelectorAll('button[aria-pressed="true"]').length,
      all: [...document.querySelectorAll('[data-figure^="best-"]')].map((e) => e.layout.yaxis.autorange),
      selected: window.selected,
      cleared: parallel.data[0].dimensions.map((d) => d.constraintrange || null),
      hidden: curves ? curves.data.filter((trace) => trace.visible === "legendonly").length : null,
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      background: getComputedStyle(document.body).backgroundColor,
      classes: [...document.querySelectorAll('[data-figure="per-class"] .ytick text')].map((e) => e.textContent),
      font: curves ? curves.layout.template.layout.font.color : null,
      requests: performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
    };
    const out = document.createElement("pre");
    out.id = "probe";
    out.textContent = JSON.stringify(result);
    document.body.append(out);
  };
  if (!item) return finish();
  item.dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
  item.dispatchEvent(new MouseEvent("mouseup", { bubbles: true }));
  setTimeout(finish, 800);
}, 1500));
</script>
"""


def _open(html_file: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    """Open the page in headless Chromium with nothing to reach, click a name in a legend, and say what was seen."""
    text = html_file.read_text(encoding="utf-8").replace("<style>", PROBE + "<style>", 1)
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", INTERACT + "</body>"), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=60000", *options, "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    for _ in range(3):  # on a loaded machine Chromium may print the page before the script is through
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        if found := re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL):
            break
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@needs_chromium
@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 500)])
def test_page_works_in_a_browser(html_file: Path, tmp_path: Path, theme: str, width: int) -> None:
    scheme = f"--blink-settings=preferredColorScheme={int(theme == 'light')}"
    seen = _open(html_file, tmp_path, scheme, f"--window-size={width},16000")
    assert seen["seen"] == [], "errors in the console, or blocked requests"
    assert seen["requests"] == []
    assert len(seen["drawn"]) > 15
    assert all(count > 0 for _, count in seen["drawn"]), seen["drawn"]
    assert seen["hidden"] == 1, "a click on a name in the legend hides its trials"
    assert (seen["pressed"], seen["all"]) == (1, [True]), "the first button shows the first steps of the best so far"
    assert seen["selected"] == [0, 0.5]
    assert set(seen["cleared"]) == {None}, "a selection on parallel coordinates can be taken back"
    assert seen["overflow"] <= 0, "the page does not scroll sideways"
    colors = {"light": ("rgb(255, 255, 255)", "#1c2127"), "dark": ("rgb(21, 24, 29)", "#e4e7eb")}
    assert (seen["background"], seen["font"]) == colors[theme]


@needs_chromium
def test_a_browser_shows_odd_class_names_as_they_are(odd: reports.RunData, tmp_path: Path) -> None:
    seen = _open(reports.write(odd.path), tmp_path, "--window-size=1200,16000")
    assert seen["seen"] == []
    assert sorted(seen["classes"]) == sorted(SHOWN_NAMES)
