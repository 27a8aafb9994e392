"""Shared by all commands: help that starts with examples, results on stdout, status messages on stderr."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from esl_neuro.cli.working import hidden, working
from esl_neuro.errors import BadInput, did_you_mean
from esl_neuro.launch import launch
from esl_neuro.pipeline.choices import FORMATS
from esl_neuro.reading.names import nearest_path, printable
from esl_neuro.report.width import terminal_width
from esl_neuro.resets import RESETS
from esl_neuro.storage import CAUSES, cause

Function = TypeVar("Function", bound=Callable[..., Any])

runs_option = click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    envvar="ESL_NEURO_RUNS",
    help="Folder of all runs (or ESL_NEURO_RUNS).",
)


LAYOUT = "\n\t"  # the only control characters of a text that is printed
DATA = "esl_neuro.data"  # where a context keeps the folder that was given


def _use_data_folder(context: click.Context, _option: click.Parameter, folder: Path | None) -> None:
    if folder is not None:
        context.meta[DATA] = folder
        os.environ["ESL_NEURO_DATA"] = str(folder)


def given_data() -> Path | None:
    """Return the path given with ``--data``; None without the option."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(DATA)


class OneOf(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """One of some words; another word gets the nearest one."""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(list(choices))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or fail."""
        if value in self.choices:
            return value
        self.fail(f"'{value}' is unknown; {did_you_mean(str(value), map(str, self.choices))}", param, ctx)


class ExistingPath(click.Path):
    """A file or folder that is there; another name gets the nearest one."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists=True, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail."""
        path = Path(value)
        if not path.exists():
            what = "folder" if not self.file_okay else "file" if not self.dir_okay else "file or folder"
            self.fail(f"'{path}': no such {what}{nearest_path(path)}", param, ctx)
        return super().convert(value, param, ctx)


data_option = click.option(
    "--data",
    type=ExistingPath(),
    expose_value=False,
    callback=_use_data_folder,
    help="Folder of the data sets, or your own data: an .npz file, or a folder with one folder per class.  "
    "[default: ESL_NEURO_DATA, or ./data]",
)
reset_option = click.option(
    "--reset",
    type=OneOf(RESETS),
    help="What a spike does to the potential, for a NIR file that does not note it: set it to zero, or subtract the "
    "threshold, at once or after the leak of the next step (snnTorch's default).  [default: zero]",
)


class OutputPath(click.Path):
    """A file or folder to write, checked before anything runs and created only when there is something to write.

    A file needs an existing folder, so that a spelling mistake creates none. With ``standard_output``, ``-`` is
    standard output.
    """

    STANDARD = "-"

    def __init__(self, *, folder: bool = False, standard_output: bool = False) -> None:
        super().__init__(file_okay=not folder, dir_okay=folder, path_type=Path)
        self.folder, self.standard_output = folder, standard_output

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with the reason why it cannot be written."""
        from tempfile import TemporaryFile

        if self.standard_output and str(value) == self.STANDARD:
            return Path(self.STANDARD)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        target = Path(os.path.realpath(path)) if path.is_symlink() else path  # a link may lead to a new file
        if target.is_symlink():
            self.fail(f"'{path}' cannot be written: {CAUSES[errno.ELOOP]}", param, ctx)
        above = path if path.exists() else target.parent
        while self.folder and not above.exists():
            above = above.parent
        if not above.exists():
            self.fail(f"'{path}' cannot be written: the folder '{above}' does not exist; create it first", param, ctx)
        if not (above.is_dir() or above == path):
            self.fail(f"'{path}' cannot be written: '{above}' is not a folder", param, ctx)
        try:
            with path.open("ab") if above == path and not self.folder else TemporaryFile(dir=above):
                pass
        except OSError as error:
            self.fail(f"'{path}' cannot be written: {error.strerror or error}", param, ctx)
        return path


class Number(click.FloatRange):
    """A finite number in a range; NaN is in no range, so click would accept it in every one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number in a range that ends at ``2**31 - 1``: what more than that counts fits no memory."""

    def __init__(self, min: int | None = None, max: int = 2**31 - 1) -> None:
        super().__init__(min, max)


class WeightBits(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Bits of the weights of all layers, ``4``, or of some, ``lif1=4,lif2=8``."""

    name = "weight bits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | dict[str, int]:
        """Read the bits; whether the layers exist is found when the network is known."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        parts = [part.strip().rpartition("=") for part in value.split(",")]
        if any(not bits.isascii() or not bits.isdigit() or len(bits) > 2 for _, _, bits in parts):
            self.fail(f"'{printable(value)}' is no number of bits; write 4, or lif1=4,lif2=8", param, ctx)
        if len(parts) == 1 and not parts[0][1]:
            return int(parts[0][2])
        if any(not layer for layer, _, _ in parts) or len({layer for layer, _, _ in parts}) < len(parts):
            self.fail(f"'{printable(value)}': name each layer once, as in lif1=4,lif2=8", param, ctx)
        return {layer: int(bits) for layer, _, bits in parts}


SEED = Whole(0, 2**63 - 1)
dt_option = click.option(
    "--dt",
    "dt_s",
    type=Number(min=0, min_open=True),
    help="Time step in seconds, for a NIR file without one.",
)
formats_option = click.option(
    "--format",
    "formats",
    type=OneOf(list(FORMATS)),
    multiple=True,
    help="Also write network.net for lava-dl (netx), or network.py for Lava alone (lava-script).",
)
weight_bits_option = click.option(
    "--weight-bits",
    type=WeightBits(),
    metavar="BITS|LAYER=BITS,...",
    help="Bits of the weights of all layers, or of some.  [default: those of the chip]",
)
stored_bits_option = click.option(
    "--stored-bits",
    type=Whole(1, 2**62),
    metavar="BITS",
    help="Choose the bits of each layer's weights, so that all synapses together take at most as much memory.",
)


def refuse_both_bits(how: Mapping[str, Any]) -> None:
    """Reject bits that are both given and to be chosen, before anything is loaded."""
    if how["weight_bits"] is not None and how["stored_bits"] is not None:
        raise BadInput("--weight-bits gives the bits that --stored-bits would choose; give one of them")


max_loss_option = click.option(
    "--max-loss",
    type=Number(min=0),
    default=1.0,
    show_default=True,
    help="Largest accuracy loss by quantisation, in points, where labels are known; the command fails above it.",
)
any_size_option = click.option(
    "--any-size", is_flag=True, help="Compile for the simulators even if the network does not fit on one chip."
)
accept_loss_option = click.option(
    "--accept-loss", is_flag=True, help="Go on even if the integers are far from the float network."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


allow_code_option = click.option(
    "--allow-code",
    is_flag=True,
    help="Import the code that a recipe, run or export outside the current folder names ('module:function').",
)


def workplace_options(jobs_help: str, what: str) -> Callable[[Function], Function]:
    """Add ``--jobs`` and ``--scheduler`` to a command.

    Parameters
    ----------
    jobs_help : str
        What ``--jobs`` counts.
    what : str
        What is done on a cluster, as an imperative.
    """
    jobs = click.option("--jobs", type=Whole(min=1), help=f"{jobs_help}  [default: 1]")
    scheduler = click.option(
        "--scheduler",
        metavar="ADDRESS",
        help=f"{what} on the workers of a Dask scheduler: its address (tcp://host:8786), or its scheduler file.",
    )
    return lambda function: jobs(scheduler(function))


training_workplace = workplace_options("Runs at a time on this machine.", "Train")


def chosen_jobs(jobs: int | None, scheduler: str | None) -> int:
    """Return the tasks at a time on this machine; the workers of a cluster decide themselves."""
    if jobs is not None and scheduler is not None:
        raise BadInput(
            "--jobs is for this machine, and the workers of --scheduler each take one task; give one of them"
        )
    return jobs or 1


def samples_option(function: Function) -> Function:
    """Add ``--samples`` to a command."""
    return click.option("--samples", type=Whole(min=1), help="Number of test samples.  [default: all]")(function)


class _Examples:
    """Mix-in that writes examples at the start of the help of a command."""

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the help of click."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(list(self.examples))
            formatter.write_paragraph()
        super().format_help(ctx, formatter)  # type: ignore[misc]


class ExampleCommand(_Examples, click.Command):
    """A command with examples, and with a bar on a terminal while it works."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with working(ctx.command_path):
            return super().invoke(ctx)


class ExampleGroup(_Examples, click.Group):
    """A group with examples, which suggests the nearest spelling for an unknown command, and alone prints its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options of the group; without any word, print the help as a result, not as an error."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(0)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or raise an error with the nearest spelling."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"command '{args[0]}' is unknown; {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def print_status(message: str) -> None:
    """Print a status message, which is not part of the result; a terminal that is gone does not end the command.

    Of several processes that train a run, the first prints. A terminal gets lines of its width, broken between words; a
    file gets each message as one line.
    """
    if launch().first:
        _print(message)


def print_error(message: str) -> None:
    """Print the error that ends a command; processes that fail for the same reason print it once on each machine.

    They do so until they know each other; from then on, an error is one of this process.
    """
    known = sys.modules.get("torch.distributed")
    if launch().local_rank == 0 or (known is not None and known.is_initialized()):
        _print(message)


def _print(message: str) -> None:
    with suppress(OSError), hidden():
        click.echo(_for(sys.stderr, printable(message, kept=LAYOUT)), err=True)


def emit(document: Any, text: str, as_json: bool, *, verbatim: bool = False) -> None:
    """Print a result, as JSON or as text; a reader that has read enough, as head, is no error.

    A terminal gets lines of its width, broken between words, unless the text is for another program (``verbatim``).
    """
    if not launch().first:
        return
    try:
        with hidden():
            if as_json:
                click.echo(json.dumps(document, indent=2))
            else:
                shown = printable(text, kept=LAYOUT)
                click.echo(shown if verbatim else _for(sys.stdout, shown))
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        raise BadInput(f"the result cannot be printed: {cause(error)}") from error


def _for(stream: TextIO | None, text: str) -> str:
    """Return a text as a stream shows it: as wide as its terminal, unchanged where it is none."""
    width = terminal_width(stream) if stream is not None and stream.isatty() else None
    return text if width is None else wrapped(text, width)


def wrapped(text: str, width: int) -> str:
    """Break the lines that are too long between words, with their indent; a path or an address stays whole."""
    return "\n".join(line if len(line) <= width else _broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    from textwrap import fill

    indent = " " * (len(line) - len(line.lstrip()))
    return fill(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def discard_output() -> None:
    """Let everything that is still printed go nowhere, because nobody reads it."""
    with suppress(OSError, ValueError):  # there may be no standard output, or one that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def percent(fraction: float) -> str:
    """Format a fraction as a percentage with two decimals."""
    return f"{100 * fraction:.2f} %"
