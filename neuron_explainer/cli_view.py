"""The command that shows runs and published explanations in a browser."""

# Imports are inside the command: --help waits for nothing, and the pages do not wait for torch.

from __future__ import annotations

import secrets
import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuron_explainer.cli_options import OwnFlag, console, takes_spec
from neuron_explainer.cli_view_hooks import open_hooks
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.wording import format_seconds

if TYPE_CHECKING:
    from fastapi import FastAPI

    from neuron_explainer.viewer.sources import ViewSource

DEFAULT_PORT = 8000
MOST_PAGE_MAKERS = 4
"""Processes for many readers; each takes some 90 MB."""
SPEC_FIELDS = (
    "simulator", "simulation", "simulator_tokenizer", "base_url", "simulator_base_url",
    "api_key_env", "requests_a_minute", "tokens_a_minute", "timeout_s", "budget_usd", "prices",
    "cache", "device", "memory_gb",
)  # fmt: skip
"""How explanations of one's own are scored, and where the subject is loaded."""
FLAGS: Mapping[str, OwnFlag] = {
    "run": OwnFlag(
        Annotated[
            list[Path] | None,
            typer.Option(
                "--run", metavar="PATH", help="A run's folder; give it again for another one."
            ),
        ],
        None,
    ),
    "published": OwnFlag(
        Annotated[
            Path | None,
            typer.Option(
                "--published",
                metavar="ARCHIVE",
                help="Published explanations, of jobs/download.py.",
            ),
        ],
        None,
    ),
    "dataset": OwnFlag(
        Annotated[str, typer.Option("--dataset", help="Of the archive: gpt2-xl or gpt2-small.")],
        "gpt2-xl",
    ),
    "port": OwnFlag(
        Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")],
        DEFAULT_PORT,
    ),
    "host": OwnFlag(
        Annotated[
            str,
            typer.Option(
                "--host", help="Where to listen; beyond this machine a token is asked for."
            ),
        ],
        "127.0.0.1",
    ),
    "token": OwnFlag(
        Annotated[
            str | None,
            typer.Option(
                "--token",
                help="What who opens the address has to know; new each time if not given.",
            ),
        ],
        None,
    ),
    "browser": OwnFlag(Annotated[bool, typer.Option(help="Whether to open a browser.")], False),
    "export": OwnFlag(
        Annotated[
            Path | None,
            typer.Option(
                "--export",
                metavar="DIR",
                help="Write the pages as files that any web host can serve, and end.",
            ),
        ],
        None,
    ),
    "most": OwnFlag(
        Annotated[
            int,
            typer.Option(
                "--most", min=1, help="Neurons whose pages are exported, the best by score."
            ),
        ],
        1000,
    ),
}


@takes_spec(*SPEC_FIELDS, one_run=False, more=FLAGS)
def view(
    spec: RunSpec,
    run: Sequence[Path] | None,
    published: Path | None,
    dataset: str,
    port: int,
    host: str,
    token: str | None,
    browser: bool,
    export: Path | None,
    most: int,
) -> None:
    """Pages of runs, and of what was published, in a browser: every neuron, search, compare.

    [dim]neuron-explainer view --run runs/a --run runs/b[/]
    """
    from neuron_explainer.pipeline.machine import available_cores
    from neuron_explainer.pipeline.view_sources import open_sources
    from neuron_explainer.viewer.app import PageMakers, create_app
    from neuron_explainer.viewer.guard import LOOPBACK

    if token is not None and not (token and token.isascii() and token.isprintable()):
        raise UsageError("--token takes letters, digits and signs of ASCII alone")
    folders = [RunFolder(path) for path in run or ([] if published else [DEFAULT_RUN])]
    sources = open_sources(folders, published, dataset)
    n_makers = min(available_cores(), MOST_PAGE_MAKERS)
    makers = PageMakers(partial(make_pages_app, folders, published, dataset, spec), n_makers)
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    with ExitStack() as opened:
        hooks = open_hooks(opened, sources, folders, published, dataset, spec)
        app = create_app(
            sources, hooks, token=token, host=host, page_makers=makers if n_makers > 1 else None
        )
        _print_sources(sources)
        if export is not None:
            _export(app, export, most)
        else:
            _serve(app, host, port, token, browser)


def make_pages_app(
    folders: Sequence[RunFolder], published: Path | None, dataset: str, spec: RunSpec
) -> FastAPI:
    """In a process that makes pages; what it opens stays open until the process ends."""
    from neuron_explainer.pipeline.view_sources import open_sources
    from neuron_explainer.viewer.app import make_following_app

    sources = open_sources(folders, published, dataset)
    return make_following_app(
        sources, open_hooks(ExitStack(), sources, folders, published, dataset, spec)
    )


def _serve(app: FastAPI, host: str, port: int, token: str | None, browser: bool) -> None:
    from neuron_explainer.viewer.server import ViewServer, addresses_of, bind

    listening = bind(host, port)
    here, *elsewhere = addresses_of(listening, token)
    _say(f"open {here}  (Ctrl-C ends it)")
    for address in elsewhere:
        _say(f"from another machine: {address}")
    if browser:
        webbrowser.open(here)
    ViewServer(app).run(sockets=[listening])


def _export(app: FastAPI, folder: Path, most: int) -> None:
    import time

    from neuron_explainer.viewer.static_site import Sizes, export_site

    started_s = time.perf_counter()
    with console.status("pages …") as status:
        counts = export_site(
            app.state.viewer,
            folder,
            sizes=Sizes(most=most),
            on_page=lambda n, of: status.update(f"{n:,} of {of:,} neurons"),
        )
    took = format_seconds(time.perf_counter() - started_s)
    _say(f"{folder}: {sum(counts.values()):,} neurons in {took}; open {folder / 'index.html'}")


def _print_sources(sources: Sequence[ViewSource]) -> None:
    for source in sources:
        _say(f"{source.title}: {source.awaited or source.records.manifest.size()}")


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
