"""``esl-neuro``: the group of commands, and the handling of errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import click

from esl_neuro.cli.check import check
from esl_neuro.cli.commands import ExampleGroup, discard_output, print_error, print_status
from esl_neuro.cli.compile import compile
from esl_neuro.cli.diff import diff
from esl_neuro.cli.doctor import doctor
from esl_neuro.cli.energy import energy
from esl_neuro.cli.evaluate import evaluate
from esl_neuro.cli.export import export
from esl_neuro.cli.inspect import inspect
from esl_neuro.cli.models import models
from esl_neuro.cli.predict import predict
from esl_neuro.cli.quickstart import quickstart
from esl_neuro.cli.report import report
from esl_neuro.cli.reproduce import reproduce
from esl_neuro.cli.run import run
from esl_neuro.cli.runs import runs
from esl_neuro.cli.search import search
from esl_neuro.cli.sweep import sweep
from esl_neuro.cli.targets import targets
from esl_neuro.cli.train import train
from esl_neuro.cli.verify import verify
from esl_neuro.errors import BadInput, EslNeuroError, ToldElsewhere
from esl_neuro.interruption import exit_without_unloading, interruptible
from esl_neuro.launch import launch
from esl_neuro.storage import cause
from esl_neuro.version import __version__


@click.group(
    cls=ExampleGroup,
    context_settings={"max_content_width": 200},
    examples=(
        ("esl-neuro quickstart", "train, export, run in Lava and price, on real digits"),
        ("esl-neuro train", "train the recipe mlp-digits"),
        ("esl-neuro export --target loihi2", "compile the latest run to integers"),
        ("esl-neuro compile net.nir --steps 50", "compile any NIR file, whichever program wrote it"),
        ("esl-neuro run --backend lava", "run the latest export in the Lava simulator"),
        ("esl-neuro energy report", "count its operations and price them"),
    ),
)
@click.version_option(__version__, prog_name="esl-neuro", message="%(prog)s %(version)s")
def cli() -> None:
    """Train sparse spiking networks, compile them to Loihi 2, verify the integers and estimate the energy.

    Results are printed to standard output, everything else to standard error. Exit codes: 0 ok, 1 a check failed,
    2 invalid usage or input, 3 an optional dependency is missing, 4 a hardware limit is exceeded, 130 interrupted,
    143 terminated.
    """
    processes, command = launch().processes, click.get_current_context().invoked_subcommand
    if processes > 1 and command != train.name:
        raise click.UsageError(
            f"torchrun started {processes} processes, and '{command}' does not divide its work between them; start it "
            "without torchrun (only 'train' is trained by several processes)"
        )


for command in (
    train,
    sweep,
    search,
    reproduce,
    evaluate,
    export,
    compile,
    check,
    run,
    verify,
    diff,
    energy,
    report,
    targets,
    models,
    runs,
    inspect,
    predict,
    doctor,
    quickstart,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with interruptible() as interrupted_by:
        try:
            code = _run(arguments)
        except (KeyboardInterrupt, click.Abort):
            print_status("esl-neuro: interrupted")
            code = 128 + (interrupted_by() or signal.SIGINT)
        # A library may have swallowed the exception; whoever sent the signal is told that it arrived.
        number = interrupted_by()
        code = code if number is None or code else 128 + number
    if number is not None and arguments is None:
        exit_without_unloading(code)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command; print its error as one line."""
    output = sys.stdout
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="esl-neuro", standalone_mode=False
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ToldElsewhere as error:
        return error.exit_code
    except EslNeuroError as error:
        print_error(f"esl-neuro: {error}")
        return error.exit_code
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "esl-neuro"
        print_error(f"{command}: {error.format_message()} (see '{command} --help')")
        return error.exit_code
    except MemoryError as error:
        print_error(f"esl-neuro: not enough memory ({' '.join(str(error).split()) or 'no detail is known'})")
        return BadInput.exit_code
    except BrokenPipeError:
        discard_output()
        return 0
    except SystemExit:
        if sys.stdout is output:
            raise
        sys.stdout = output  # click has replaced it because its reader is gone
        discard_output()
        return 0
    except OSError as error:  # a folder that cannot be written, a disk that is full
        place = "" if error.filename is None else f"{error.filename}: "
        print_error(f"esl-neuro: {place}{cause(error)}")
        return BadInput.exit_code


if __name__ == "__main__":
    sys.exit(main())
