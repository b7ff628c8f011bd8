"""The page of the report: what it says, and that names of a run cannot become markup."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape as markup_escape

from tests.helpers.make_run import Stage, make_run
from tests.helpers.odd_names import SHOWN_NAMES
from winnow import reports
from winnow.reports.figures import winners as figures_winners
from winnow.reports.figures.style import DARK_PAGE, LIGHT_PAGE, STATUS_COLORS, STATUS_SYMBOLS
from winnow.reports.html import gallery, sections
from winnow.reports.html.page import page
from winnow.reports.html.sections import sections_of
from winnow.reports.reading.parquet_reader import FromParquet
from winnow.reports.statuses import STATUSES
from winnow.reports.text import glossary, summary
from winnow.reports.text.glossary import GLOSSARY
from winnow.reports.visible import visible


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
    minute = re.compile(r"this page was generated on [\d: -]+ UTC")
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
        assert "24 trials were requested" in text
    if stage != "empty":
        assert "the last line of epochs.jsonl is incomplete" in text
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


def test_terms_explain_themselves(run: reports.RunData) -> None:
    html = page(run)
    for term, meaning in GLOSSARY.items():
        assert f'<dt id="{glossary.anchor(term)}">{term}</dt><dd>{markup_escape(meaning)}</dd>' in html
    assert f'<a class="term" href="#term-gap" title="{markup_escape(GLOSSARY["gap"])}">gap</a></th>' in html
    first = html[html.index('id="summary"') : html.index('id="winners"')]
    assert 'href="#term-95-interval"' in first[first.index('class="headline"') : first.index('class="yardsticks"')]
    assert 'href="#term-baseline"' in first[first.index('class="yardsticks"') : first.index('class="lead"')]
    for term in ("gap", "completed"):  # in a sentence, on a tile
        assert f'href="#term-{term}"' in first
    places = set(re.findall(r'href="#(term-[^"]+)"', html))
    assert len(places) > 10
    assert places <= set(re.findall(r'<dt id="([^"]+)"', html))


@given(
    st.lists(st.sampled_from([*GLOSSARY, "Rungs", "arung", "front-end", " ", "<b>", ", "]), max_size=12).map("".join)
)
def test_a_text_is_the_same_with_its_terms_explained(text: str) -> None:
    pieces = glossary.parts(text)
    assert "".join(piece for piece, _ in pieces) == text
    terms = [term for _, term in pieces if term is not None]
    assert len(terms) == len(set(terms))


def test_a_term_is_explained_at_its_first_place_only() -> None:
    assert glossary.parts("Gap of rungs, gap, rung-like") == [
        ("Gap", "gap"),
        (" of ", None),
        ("rungs", "rung"),
        (", gap, rung-like", None),
    ]


def test_a_best_trial_that_was_stopped_is_not_said_to_be_trained_to_its_end(tmp_path: Path) -> None:
    html = page(reports.read(make_run(tmp_path / "failed", "searched", completed="none")))
    assert "trained for 9 of 18 epochs" in html
    assert "Start the next search from the best config so far." in html
