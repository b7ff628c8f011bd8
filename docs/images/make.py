"""Makes the screenshots of README from real runs: `python docs/images/make.py DATA` (needs tmux and chromium; half an hour on two cores).

DATA is the folder that holds `cifar10`. The script runs two searches in a tmux window of 110 x 32 characters, in an empty folder: `digits`, of
which it takes the live view once about half of the trials have ended, and `photos.yaml`, of which it photographs the report. It photographs no
report whose winner cannot be told apart from the baseline. `python docs/images/make.py DATA FOLDER` keeps that folder (the runs lie in its `runs`);
a run that is there already is not searched again.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 110, 32
TRIAL_TO_WAIT_FOR = 11
LIVE = "winnow run digits --name digits"
REPORT = "winnow run photos.yaml --name photos"
PHONE = 390  # pixels
# A headless browser would otherwise ask the network for one thing and another.
QUIET = (
    "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-gpu --no-sandbox "
    "--enable-unsafe-swiftshader --hide-scrollbars --virtual-time-budget=15000"
)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    data = Path(sys.argv[1]).resolve()
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "photos.yaml", folder)
    if not report_of(folder, "digits").is_file():
        picture = watch(folder, LIVE)
        svg = folder / "terminal.svg"
        svg.write_text(as_svg(picture), encoding="utf-8")
        photograph(svg, HERE / "terminal.png", size_of(svg))
    report = report_of(folder, "photos")
    if not report.is_file():
        watch(folder, f"{REPORT} --data-dir {shlex.quote(str(data))}")
    from winnow import reports

    if not is_finding(reports.read(report.parent.parent).winner_rows()):
        sys.exit(f"{report}: the winner cannot be told apart from the baseline, so its pictures stay as they are")
    photograph(report, HERE / "report.png", (1200, 1500))
    photograph(report, HERE / "report-phone.png", (PHONE, 1500), dark=True)


def report_of(folder: Path, run: str) -> Path:
    return folder / "runs" / run / "report" / "report.html"


def is_finding(winners: Sequence[dict[str, Any]]) -> bool:
    """Whether the interval of the first winner's gain over the baseline lies above 0."""
    lows = [row["objective_gain_low"] for row in winners if row["rank"] == 1]
    return bool(lows) and lows[0] is not None and lows[0] > 0


def watch(folder: Path, command: str) -> str:
    """Run a search to its end; return the live view of its middle, with ANSI colours. Ends this script if it wrote no report."""
    socket = str(folder / "tmux")
    tmux = ["tmux", "-S", socket]
    own = f"{Path(sys.executable).parent / 'winnow'} {command.removeprefix('winnow ')}; sleep 2; exit"
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), "-c", str(folder), own], check=True
    )
    picture = last = ""
    while subprocess.run([*tmux, "has-session"], capture_output=True, check=False).returncode == 0:
        seen = subprocess.run([*tmux, "capture-pane", "-ep"], capture_output=True, text=True, check=False).stdout
        last = seen or last
        ended = re.search(r"(\d+) of \d+ trials", Text.from_ansi(seen).plain)
        if ended and int(ended[1]) >= TRIAL_TO_WAIT_FOR and not picture:
            picture = seen
        time.sleep(0.3)
    words = shlex.split(command)
    if not picture or not report_of(folder, words[words.index("--name") + 1]).is_file():
        sys.exit(f"{command} did not come to its end; the last that was seen of it:\n{last}")
    return picture


def as_svg(picture: str) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(picture.rstrip()))
    # Without the fonts that rich would have the browser fetch.
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=LIVE), flags=re.DOTALL)


def size_of(svg: Path) -> tuple[int, int]:
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text(encoding="utf-8"))
    assert box is not None
    return round(float(box[1])), round(float(box[2]))


def photograph(file: Path, target: Path, size: tuple[int, int], dark: bool = False) -> None:
    """The top of a page as a PNG of few colours. A window of Chromium is 500 pixels wide at least; a frame in it is not."""
    width, height = size
    with tempfile.TemporaryDirectory() as folder:
        page = file.resolve().as_uri()
        if width < 500:
            frame = Path(folder) / "frame.html"
            style = f"border:0;width:{width}px;height:{height}px"
            frame.write_text(f'<body style="margin:0"><iframe src="{page}" style="{style}"></iframe>')
            page = frame.as_uri()
        options = [
            *QUIET.split(),
            f"--user-data-dir={folder}/profile",
            f"--blink-settings=preferredColorScheme={int(not dark)}",
            f"--window-size={max(width, 500)},{height}",
        ]
        shot = Path(folder) / "shot.png"
        subprocess.run(
            ["chromium", "--headless", *options, f"--screenshot={shot}", page],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with Image.open(shot) as image:
            picture = image.convert("RGB").crop((0, 0, width, height))
            picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(target, optimize=True)
    print(target, f"{target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
