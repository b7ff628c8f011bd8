"""Makes the screenshots of README from a real run: `python docs/images/make.py` (needs tmux and chromium; minutes).

Runs `winnow run digits --name digits` in a tmux window of 110 x 32 characters, in an empty folder, takes the live view once about half of the
trials have ended, and photographs the report at the end. `python docs/images/make.py FOLDER` keeps that folder (runs/digits lies in it).
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 110, 32
TRIAL_TO_WAIT_FOR = 11
COMMAND = "winnow run digits --name digits"
# What a headless browser would otherwise do over the network.
QUIET = "--disable-background-networking --disable-component-update --disable-sync --no-first-run --disable-gpu --no-sandbox"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    picture = watch(folder)
    svg = folder / "terminal.svg"
    svg.write_text(as_svg(picture), encoding="utf-8")
    photograph(svg, HERE / "terminal.png", size_of(svg))
    photograph(folder / "runs" / "digits" / "report" / "report.html", HERE / "report.png", (1200, 1500))


def watch(folder: Path) -> str:
    """Run the search to its end; the live view of its middle, with ANSI colours."""
    socket = str(folder / "tmux")
    tmux = ["tmux", "-S", socket]
    command = f"{Path(sys.executable).parent / 'winnow'} {COMMAND.removeprefix('winnow ')}; exit"
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), "-c", str(folder), command], check=True
    )
    picture = ""
    while subprocess.run([*tmux, "has-session"], capture_output=True, check=False).returncode == 0:
        seen = subprocess.run([*tmux, "capture-pane", "-ep"], capture_output=True, text=True, check=False).stdout
        ended = re.search(r"(\d+) of \d+ trials", Text.from_ansi(seen).plain)
        if ended and int(ended[1]) >= TRIAL_TO_WAIT_FOR and not picture:
            picture = seen
        time.sleep(0.3)
    return picture


def as_svg(picture: str) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(picture.rstrip()))
    return console.export_svg(title=COMMAND)


def size_of(svg: Path) -> tuple[int, int]:
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text(encoding="utf-8"))
    assert box is not None
    return round(float(box[1])), round(float(box[2]))


def photograph(file: Path, target: Path, size: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as profile:
        options = [
            *QUIET.split(),
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            "--hide-scrollbars",
        ]
        command = [
            "chromium",
            "--headless",
            *options,
            "--virtual-time-budget=8000",
            f"--screenshot={target}",
            file.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True)
    print(target, f"{target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
