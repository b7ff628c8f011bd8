"""The page of the report in headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.make_run import make_run
from tests.helpers.odd_names import SHOWN_NAMES
from winnow import reports

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")


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
  const folds = [...document.querySelectorAll("details.fold")];
  const unfolded = folds.map((each) => each.open);
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  named("Show all values")[0].click();
  Plotly.restyle(parallel, { "dimensions[1].constraintrange": [[0, 0.5]] }).then(() => {
    window.selected = parallel.data[0].dimensions[1].constraintrange.flat();
    named("Clear the selection")[0].click();
  });
  const finish = () => {
    const result = {
      seen: window.seen, unfolded,
      hints: [...document.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth && !getComputedStyle(e).backgroundImage.includes("gradient")).length,
      drawn: [...document.querySelectorAll("[data-figure]")].map((e) => [e.dataset.figure, e.querySelectorAll(".main-svg").length]),
      pressed: document.querySelectorAll('button[aria-pressed="true"]').length,
      all: [...document.querySelectorAll('[data-figure^="best-"]')].map((e) => e.layout.yaxis.autorange),
      selected: window.selected,
      cleared: parallel.data[0].dimensions.map((d) => d.constraintrange || null),
      hidden: curves ? curves.data.filter((trace) => trace.visible === "legendonly").length : null,
      width: window.innerWidth,
      papers: [...new Set([...document.querySelectorAll(".scroll .main-svg")].map((e) => getComputedStyle(e).backgroundColor))],
      cut: [...document.querySelectorAll("pre, p, li")].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent),
      cells: [...document.querySelectorAll('[data-figure="confusion"] .heatmaplayer image')].map((e) => e.getBoundingClientRect().width),
      scales: [...document.querySelectorAll(".scales li")].map((e) => [e.textContent.trim().replaceAll("\u00a0", " "), e.getBoundingClientRect().right, e.querySelector("i").clientWidth, getComputedStyle(e.querySelector("i")).backgroundImage]),
      row: [...document.querySelectorAll(".slices figure")].slice(0, 2).map((e) => e.getBoundingClientRect().top),
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      background: getComputedStyle(document.body).backgroundColor,
      classes: [...document.querySelectorAll('[data-figure="per-class"] .ytick text')].map((e) => e.textContent),
      font: curves ? curves.layout.template.layout.font.color : null,
      requests: performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
    };
    const input = curves && curves.closest("figure").querySelector("input");
    const choose = (number) => {
      input.value = number;
      input.dispatchEvent(new Event("change"));
      const last = curves.data[curves.data.length - 1];
      return [curves.data.length, last.name, last.x, last.y, input.parentElement.querySelector("output").textContent, curves.layout.yaxis.autorange];
    };
    result.trials = input ? ["0", "5", ""].map(choose) : null;
    window.parent.postMessage(JSON.stringify(result), "*");
  };
  if (!item) return finish();
  item.dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
  item.dispatchEvent(new MouseEvent("mouseup", { bubbles: true }));
  setTimeout(finish, 800);
}, 1500));
</script>
"""


# A window of Chromium is at least 500 pixels wide, so a phone is a frame in a wider one.
FRAME = """
<!DOCTYPE html><meta name="color-scheme" content="light dark">
<iframe src="probed.html" style="border:0;width:{width}px;height:24000px"></iframe>
<script>
window.addEventListener("message", (event) => {{
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = event.data;
  document.body.append(out);
}});
</script>
"""


def _open(html_file: Path, tmp_path: Path, width: int, *options: str) -> dict[str, Any]:
    """Open the page in headless Chromium with nothing to reach, click a name in a legend, and say what was seen."""
    text = html_file.read_text(encoding="utf-8").replace("<style>", PROBE + "<style>", 1)
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", INTERACT + "</body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=60000", f"--window-size={width + 100},24100", *options, "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    for _ in range(3):  # on a loaded machine Chromium may print the page before the script is through
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        if found := re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL):
            break
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@needs_chromium
@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 390)])
def test_page_works_in_a_browser(html_file: Path, tmp_path: Path, theme: str, width: int) -> None:
    scheme = f"--blink-settings=preferredColorScheme={int(theme == 'light')}"
    seen = _open(html_file, tmp_path, width, scheme)
    assert seen["width"] == width
    assert seen["seen"] == [], "errors in the console, or blocked requests"
    assert seen["requests"] == []
    assert len(seen["drawn"]) > 15
    assert all(count > 0 for _, count in seen["drawn"]), seen["drawn"]
    assert seen["hidden"] == 1, "a click on a name in the legend hides its trials"
    assert (seen["pressed"], seen["all"]) == (1, [True]), "the first button shows the first steps of the best so far"
    assert seen["selected"] == [0, 0.5]
    assert set(seen["cleared"]) == {None}, "a selection on parallel coordinates can be taken back"
    assert seen["overflow"] <= 0, "the page does not scroll sideways"
    assert seen["unfolded"] == [width > 560], "slices fold on a phone, and are drawn when they are opened"
    assert seen["hints"] == 0, "what scrolls sideways has a shadow"
    assert all(paper.endswith(", 0)") for paper in seen["papers"]), "no figure covers the shadow"
    assert seen["cut"] == [], "commands, code and long words wrap"
    assert len(seen["scales"]) == 2, "the colours of the confusion matrix, right and wrong"
    for text, right, bar, colors in seen["scales"]:
        assert re.fullmatch(r"(right|wrong), share of the class: 0\s%\s+[\d.]+\s%", text)
        assert right <= width, "whole on a phone"
        assert bar > 60
        assert colors.count("rgba(") == 2
    if width > 560:
        assert len(set(seen["row"])) == 1, "the first slice is as high as its neighbour"
    colors = {"light": ("rgb(255, 255, 255)", "#1c2127"), "dark": ("rgb(21, 24, 29)", "#e4e7eb")}
    assert (seen["background"], seen["font"]) == colors[theme]


@needs_chromium
def test_the_curve_of_one_trial_is_drawn_over_the_others(run: reports.RunData, html_file: Path, tmp_path: Path) -> None:
    one, without, cleared = _open(html_file, tmp_path, 1200)["trials"]
    epochs = [row for row in run.rows("epochs") if row["phase"] == "search"]
    curve = [(row["epoch"], row["validation_accuracy"]) for row in epochs if row["trial"] == 0]
    assert (one[1], list(zip(one[2], one[3], strict=True)), one[4]) == ("trial 0", curve, "")
    assert one[5] is True, "the axis shows the whole curve"
    assert 5 not in {row["trial"] for row in epochs}
    assert without[4].startswith("It has no curve here")
    assert cleared[4] == ""
    assert one[0] - 1 == without[0] == cleared[0]


@needs_chromium
def test_a_browser_shows_odd_class_names_as_they_are(odd: reports.RunData, tmp_path: Path) -> None:
    seen = _open(reports.write(odd.path), tmp_path, 1200)
    assert seen["seen"] == []
    assert sorted(seen["classes"]) == sorted(SHOWN_NAMES)


@needs_chromium
def test_long_class_names_fit_on_a_phone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["data"]["class_names"] = [f"northern_temperate_mixed_broadleaf_forest_of_{year}_years" for year in range(10)]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    seen = _open(reports.write(folder), tmp_path, 390)
    assert (seen["seen"], seen["cut"]) == ([], [])
    assert seen["overflow"] <= 0
    assert len(set(seen["classes"])) == 10
    assert max(map(len, seen["classes"])) <= 22
    assert min(seen["cells"]) > 200, "ten columns of 20 pixels or more"
