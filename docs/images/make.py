"""Makes the screenshots of README from a real run: `python docs/images/make.py` (needs tmux and chromium; minutes).

Runs `winnow run digits --name digits` in a tmux window of 110 x 32 characters, in an empty folder, takes the live view once about half of the
trials have ended, and photographs the report at the end. `python docs/images/make.py FOLDER` keeps that folder (runs/digits lies in it); where
the run is there already, only the report is photographed again.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 110, 32
TRIAL_TO_WAIT_FOR = 11
COMMAND = "winnow run digits --name digits"
PHONE = 390  # pixels
# A headless browser would otherwise ask the network for one thing and another.
QUIET = (
    "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-gpu --no-sandbox "
    "--enable-unsafe-swiftshader --hide-scrollbars --virtual-time-budget=15000"
)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "runs" / "digits" / "report" / "report.html"
    if not report.is_file():
        picture, last = watch(folder)
        if not picture or not report.is_file():
            sys.exit(f"the run did not come to its end; the last that was seen of it:\n{last}")
        svg = folder / "terminal.svg"
        svg.write_text(as_svg(picture), encoding="utf-8")
        photograph(svg, HERE / "terminal.png", size_of(svg))
    photograph(report, HERE / "report.png", (1200, 1500))
    photograph(report, HERE / "report-phone.png", (PHONE, 1500), dark=True)


def watch(folder: Path) -> tuple[str, str]:
    """Run the search to its end: the live view of its middle, and the last of the window, with ANSI colours."""
    socket = str(folder / "tmux")
    tmux = ["tmux", "-S", socket]
    command = f"{Path(sys.executable).parent / 'winnow'} {COMMAND.removeprefix('winnow ')}; sleep 2; exit"
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), "-c", str(folder), command], check=True
    )
    picture = last = ""
    while subprocess.run([*tmux, "has-session"], capture_output=True, check=False).returncode == 0:
        seen = subprocess.run([*tmux, "capture-pane", "-ep"], capture_output=True, text=True, check=False).stdout
        last = seen or last
        ended = re.search(r"(\d+) of \d+ trials", Text.from_ansi(seen).plain)
        if ended and int(ended[1]) >= TRIAL_TO_WAIT_FOR and not picture:
            picture = seen
        time.sleep(0.3)
    return picture, last


def as_svg(picture: str) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(picture.rstrip()))
    # Without the fonts that rich would have the browser fetch.
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=COMMAND), flags=re.DOTALL)


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
