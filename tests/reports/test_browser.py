"""The page of the report in headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

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
  folds.forEach((each) => { each.open = true; });
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
    assert seen["unfolded"] == [width > 560], "slices fold on a phone, and are drawn when they are opened"
    assert seen["hints"] == 0, "what scrolls sideways has a shadow"
    colors = {"light": ("rgb(255, 255, 255)", "#1c2127"), "dark": ("rgb(21, 24, 29)", "#e4e7eb")}
    assert (seen["background"], seen["font"]) == colors[theme]


@needs_chromium
def test_a_browser_shows_odd_class_names_as_they_are(odd: reports.RunData, tmp_path: Path) -> None:
    seen = _open(reports.write(odd.path), tmp_path, "--window-size=1200,16000")
    assert seen["seen"] == []
    assert sorted(seen["classes"]) == sorted(SHOWN_NAMES)
