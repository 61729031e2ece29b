"""The search command: explanations by their words or their meaning, of a run or as published."""

# Stages are imported inside the command, so that --help does not wait for torch.

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuron_explainer.cli_options import JsonOption, RunOption, console
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder

if TYPE_CHECKING:
    from neuron_explainer.records.listed import ListedExplanation
    from neuron_explainer.stores.library import Library
    from neuron_explainer.stores.library_search import Filters

_progress_console = Console(stderr=True, emoji=False)
"""So that --json prints JSON alone."""
UNSAID = "not said"
"""The kind of a score whose list does not say it."""


def search(
    words: Annotated[str, typer.Argument(help="What the explanations are about.")],
    run: RunOption = DEFAULT_RUN,
    published: Annotated[
        bool, typer.Option("--published", help="Those of OpenAI in an archive, not a run's.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="With --published: gpt2-xl or gpt2-small.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="With --published: which; by default in the cache."),
    ] = None,
    semantic: Annotated[
        bool, typer.Option("--semantic", help="By meaning: nearest first, whatever the words.")
    ] = False,
    embedding_model: Annotated[
        str | None,
        typer.Option(
            "--embedding-model",
            help="With --semantic: hub id or folder; all-MiniLM-L6-v2 if not given.",
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="Of this layer alone.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", help="Scored at least so high, whatever kind of score it is."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Of this list alone; a run's is its name."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Find explanations in all lists that were imported and the run's own, or as published.

    [dim]What --json prints is a list that `import` takes.[/]
    """
    from neuron_explainer.stores.library_search import Filters

    if not published and (dataset is not None or archive is not None):
        raise UsageError("--dataset and --archive are of what was published; give --published too")
    if not semantic and embedding_model is not None:
        raise UsageError("--embedding-model is for --semantic; give that too")
    filters = Filters(layer, min_score, source)
    with _open_library(run, dataset or "gpt2-xl" if published else None, archive) as library:
        if semantic:
            _search_semantically(library, words, embedding_model, filters, limit, as_json)
        else:
            _search_words(library, words, filters, limit, as_json)


@contextmanager
def _open_library(run: Path, dataset: str | None, archive: Path | None) -> Iterator[Library]:
    """The run's when there is no dataset."""
    from neuron_explainer.pipeline.own_explanations import open_with_own
    from neuron_explainer.pipeline.published_search import open_published

    if dataset is None:
        with open_with_own(RunFolder(run)) as library:
            yield library
        return
    with (
        _progress_console.status("looking for new explanations") as status,
        open_published(
            dataset,
            archive,
            on_read=lambda n: status.update(f"{n:,} new explanations read, once"),
        ) as library,
    ):
        status.stop()
        yield library


def _search_words(
    library: Library, words: str, filters: Filters, limit: int, as_json: bool
) -> None:
    found = library.search(
        words,
        layer_index=filters.layer_index,
        min_score=filters.min_score,
        source=filters.source,
        limit=limit,
    )
    if as_json:
        _print_json(found.words, found.left_out, found.hits)
        return
    _print_hits(found.hits)
    if found.left_out:
        console.print(f"left out, as very common: {', '.join(found.left_out)}", markup=False)


def _search_semantically(
    library: Library, words: str, name: str | None, filters: Filters, limit: int, as_json: bool
) -> None:
    from neuron_explainer.pipeline.archives import default_archive
    from neuron_explainer.pipeline.embedding_models import (
        DEFAULT_EMBEDDING_MODEL,
        load_embedding_model,
    )
    from neuron_explainer.pipeline.semantic_search import search_semantically

    model = load_embedding_model(name or DEFAULT_EMBEDDING_MODEL)
    with _progress_console.status("looking for new explanations") as status:
        hits = search_semantically(
            library,
            words,
            model,
            filters,
            limit=limit,
            elsewhere=default_archive().parent,
            on_embedded=lambda n, of: status.update(f"{n:,} of {of:,} embedded, once"),
        )
    explanations = [hit.explanation for hit in hits]
    similarities = [hit.similarity for hit in hits]
    if as_json:
        _print_json([words], [], explanations, similarities)
    else:
        _print_hits(explanations, similarities)


def _print_json(
    words: Sequence[str],
    left_out: Sequence[str],
    hits: Sequence[ListedExplanation],
    similarities: Sequence[float] = (),
) -> None:
    """In the columns of a table of explanations, so that it can be read as one."""
    from neuron_explainer.formats.listed_rows import to_row

    rows = [to_row(hit) for hit in hits]
    for row, similarity in zip(rows, similarities, strict=False):
        row["similarity"] = similarity
    answer = {"words": words, "left_out": left_out, "explanations": rows}
    typer.echo(json.dumps(answer, ensure_ascii=False, allow_nan=False))


def _print_hits(hits: Sequence[ListedExplanation], similarities: Sequence[float] = ()) -> None:
    if not hits:
        console.print("nothing found")
        return
    kinds = sorted({hit.score.kind or UNSAID for hit in hits if hit.score is not None})
    names = ["neuron", "score", *(["kind of score"] if len(kinds) > 1 else []),
             *(["similarity"] if similarities else []), "explanation", "list"]  # fmt: skip
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, no_wrap=name in ("neuron", "score", "similarity"))
    for i, hit in enumerate(hits):
        score = "–" if hit.score is None else f"{hit.score.value:.2f}"
        kind = "" if hit.score is None else hit.score.kind or UNSAID
        more = [Text(kind)] if len(kinds) > 1 else []
        more += [Text(f"{similarities[i]:.3f}")] if similarities else []
        text = Text(hit.text.strip())
        table.add_row(str(hit.neuron_id), score, *more, text, Text(hit.source))
    console.print(table)
    if len(kinds) == 1 and kinds != [UNSAID]:
        console.print(f"score: {kinds[0]}", markup=False)
