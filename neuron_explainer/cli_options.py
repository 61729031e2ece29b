"""What every command and job shares: flags made from the fields of RunSpec, and how errors end."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import os
import signal
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.logging import RichHandler

from neuron_explainer.errors import NeuronExplainerError, UsageError
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder
from neuron_explainer.pipeline.spec import ASK, COLLECT, EXPLAIN, PATTERN, REACH, RunSpec, flag_of

console = Console(emoji=False)
"""Where commands and jobs print: `:m:` is `:m:`, in the name of a model as in a token."""

# Before torch is imported: its idle threads spin for microseconds only and then sleep, so that
# another busy process slows a run down by its share and not tenfold.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

COMMON = {"model", "corpus", "layers", "units", "neurons", "n_tokens", "seed"}
WHERE_TO_COLLECT = ("corpus", "device", "memory_gb", "checkpoint_s", "shard")
COLLECT_FIELDS = (*RunSpec().choices(COLLECT), *WHERE_TO_COLLECT)
EXPLAIN_FIELDS = (
    *("neurons", "device", "memory_gb"),
    *(name for stage in (EXPLAIN, PATTERN, ASK, REACH) for name in RunSpec().choices(stage)),
)
PANELS = {
    COLLECT: "Collection",
    EXPLAIN: "Explaining and scoring",
    PATTERN: "Patterns",
    ASK: "What a language model is asked",
    REACH: "How a language model is reached, and what it may cost",
}

STOPPED = 128 + signal.SIGINT
WAYS_OUT = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space, or use --run on another disk"
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "see to its permissions, or use another --run"
    ),
    errno.EISDIR: "move that folder away, or use another --run",
}
"""By the system's error number, what to do about it."""


def _parse_run(text: str | Path) -> Path:
    """An empty one, as an unset variable gives, would be the current folder."""
    if not str(text):
        raise UsageError("--run is empty; give a folder, such as runs/default")
    return Path(text)


RunOption = Annotated[
    Path,
    typer.Option(
        "--run",
        parser=_parse_run,
        metavar="PATH",
        help="The run's folder; other commands find it by this.",
    ),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Start the run folder over: what a run made in it is lost.")
]


class OwnFlag(NamedTuple):
    """A flag of one command."""

    annotation: Any
    default: Any = inspect.Parameter.empty
    """Without one the flag must be given."""


NO_FLAGS: Mapping[str, OwnFlag] = {}
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print how many requests and tokens it takes, and what they cost; ask none.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


DRY_RUN = {"dry_run": OwnFlag(DryRunOption, False)}


def run_program(call: Callable[[], None]) -> None:
    """Runs a command line; an error is one line, and exit code 2 for wrong usage, else 1.

    So is a stop, by Ctrl-C or SIGTERM, with exit code 130.
    What the package counts and leaves out (`logger.info`) is printed as it happens.
    """
    handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("neuron_explainer").setLevel(logging.INFO)
    # An orderly end, as by Ctrl-C: what is done is kept, and the same command goes on.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        call()
    except SystemExit as ended:
        if ended.code == STOPPED:  # what typer makes of KeyboardInterrupt
            _say("stopped; the same command goes on from here")
        raise
    except NeuronExplainerError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        _fail(_describe_system_error(error), 1)


def _interrupt(*_: object) -> None:
    """As Ctrl-C, also in a job that a shell started in the background, where that is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _describe_system_error(error: OSError) -> str:
    """`No space left on device: runs/a/report.html; free some, or use --run on another disk`"""
    where = "" if error.filename is None else f": {error.filename}"
    way_out = WAYS_OUT.get(error.errno or 0, "see what `neuron-explainer doctor` says")
    return f"{error.strerror or error}{where}; {way_out}"


def _fail(message: str, code: int) -> None:
    _say(f"error: {message}", style="red")
    sys.exit(code)


def _say(line: str, style: str | None = None) -> None:
    stderr = Console(stderr=True, emoji=False)
    stderr.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def takes_spec(
    *names: str,
    fresh: bool = True,
    one_run: bool = True,
    more: Mapping[str, OwnFlag] = NO_FLAGS,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates `command(spec, folder)`: the command line gets a flag for each named field.

    Without names: one for every field but `shard`, as a shard is collected and no more. `--run`
    comes with it, and `--fresh` if wanted; without `one_run` there is neither, and no folder.
    `more`: the command's own flags, which it gets by name.
    """
    chosen = set(names) or {f.name for f in fields(RunSpec)} - {"shard"}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def from_flags(**flags: Any) -> None:
            own = {name: flags.pop(name) for name in more}
            folders = []
            if one_run:
                folders = [RunFolder(flags.pop("run"), fresh=flags.pop("fresh", False))]
            command(RunSpec(**flags), *folders, **own)

        parameters = [
            *([_parameter("run", RunOption, DEFAULT_RUN)] if one_run else []),
            *_spec_parameters(chosen),
            *([_parameter("fresh", FreshOption, False)] if one_run and fresh else []),
            *(_parameter(name, flag.annotation, flag.default) for name, flag in more.items()),
        ]
        from_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        from_flags.__annotations__ = {p.name: p.annotation for p in parameters}
        return from_flags

    return decorate


def _spec_parameters(chosen: set[str]) -> list[inspect.Parameter]:
    types = typing.get_type_hints(RunSpec)
    return [
        _parameter(
            f.name,
            Annotated[
                types[f.name],
                typer.Option(
                    flag_of(f.name),
                    help=f.metadata["help"],
                    show_default=f.default is not None,
                    rich_help_panel=None if f.name in COMMON else PANELS.get(f.metadata["stage"]),
                ),
            ],
            f.default,
        )
        for f in fields(RunSpec)
        if f.name in chosen
    ]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
