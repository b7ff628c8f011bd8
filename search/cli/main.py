"""The command line: parses arguments, calls `winnow.search.operations`, and prints. Slow imports are delayed until they are needed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from winnow.search.cli.common import BAD_INPUT, DONE, FAILED, INTERRUPTED
from winnow.search.cli.lasting_stream import (
    flush_output,
    lasting_output,
    open_closed_streams,
    replace_unknown_characters,
)
from winnow.search.cli.launch_command import launch
from winnow.search.cli.plan_command import plan
from winnow.search.cli.run_commands import RUN_COMMANDS
from winnow.search.cli.search_commands import SEARCH_COMMANDS
from winnow.search.cli.signals import sigterm_like_ctrl_c
from winnow.search.cli.training_commands import TRAINING_COMMANDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the `winnow` command and exit the process.

    The exit code is 0 (done), 1 (failed, or standard output could not be written), 2 (bad input) or 130 (interrupted; the state is kept).

    Args:
        arguments: The arguments of the command. Default: those of the process.
    """
    open_closed_streams()
    replace_unknown_characters()
    with lasting_output() as lost:
        try:
            code = _run(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else FAILED if ended.code else DONE
        flush_output()
        # A reader that has closed the pipe wants no more.
        problem = next((error for error in lost if error.errno != errno.EPIPE), None)
        if problem is not None and code == DONE:
            click.echo(
                f"winnow: what the command printed is incomplete: standard output cannot be written ({problem.strerror or problem})",
                err=True,
            )
            code = FAILED
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run the command and return its exit code."""
    from winnow.spaces.errors import InputError, printable

    if sys.platform == "win32":
        click.echo("note: Winnow is not tested on Windows; under WSL2 it runs as on Linux", err=True)
    try:
        with sigterm_like_ctrl_c():
            code = cli.main(args=arguments, prog_name="winnow", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.ClickException as error:
        if isinstance(error, click.UsageError):
            from winnow.search.cli.meant import meant

            error = meant(error, sys.argv[1:] if arguments is None else arguments)
        error.show()
        return BAD_INPUT
    except InputError as error:
        click.echo(f"winnow: {printable(str(error))}", err=True)
        return BAD_INPUT
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # the path of a run, a space, an output or anything else that was typed
            raise
        click.echo(f"winnow: {_too_long(error)}", err=True)
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort) as error:
        way_on = str(error.__cause__ or "")  # click raises an Abort from the KeyboardInterrupt
        way_on = f"; {printable(way_on)}" if way_on else ""
        click.echo(f"winnow: interrupted{way_on}", err=True)
        return INTERRUPTED


def _too_long(error: OSError) -> str:
    """Return the message about a path that is too long for the file system."""
    from winnow.spaces.errors import printable

    if error.filename is None:  # raised by a library in C++
        return printable(str(error))
    path = os.fsdecode(error.filename)
    longest = max(len(os.fsencode(part)) for part in path.split(os.sep))
    return (
        f"{printable(path[:60])}...: this path is longer than the file system allows. It has {len(os.fsencode(path))} bytes, its longest "
        f"part {longest}; usually 4096 bytes are allowed, and 255 for each part"
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="winnow-search", prog_name="winnow")
def cli() -> None:
    """Search for image-classification networks with Ray Tune, Optuna and ASHA, retrain the winners, and write a report.

    SPACE is a name from `winnow spaces` or a YAML file; RUN is a run folder, or its name under runs/.
    """


for _command in (*SEARCH_COMMANDS, plan, launch, *RUN_COMMANDS, *TRAINING_COMMANDS):
    cli.add_command(_command)
