"""Text of a Hugging Face dataset, streamed through the optional package `datasets`.

    hf:roneneldan/TinyStories                              split train, column of --text-field
    hf:Salesforce/wikitext/wikitext-2-raw-v1:test:text     a configuration, a split and a column
    hf:./folder                                            a local folder, read as `datasets` does

Only files of data are read; a dataset that brings code is refused.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from datasets import (
    IterableDataset,
    Value,
    get_dataset_config_names,
    load_dataset_builder,
    packaged_modules,
)
from datasets.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from neuron_explainer.collector.documents import Document, with_text
from neuron_explainer.collector.file_readers import readable, text_of
from neuron_explainer.errors import CorpusError, UsageError

PREFIX = "hf:"
READ_KINDS = ("arrow", "cache", "csv", "json", "parquet", "text")
"""Formats that hold text and nothing that runs; `cache` is a dataset downloaded before."""

_TEXT_TYPES = {"string", "large_string"}
_WHERE_FILES_ARE = {"data_files", "data_dir"}
_RULES = "1"
_ROWS_PER_BATCH = 64
_MAX_NAMED = 8


class HubAddress(NamedTuple):
    """What follows `hf:`, taken apart."""

    dataset: str
    """`owner/name`, `name`, or a local folder."""
    config: str | None
    split: str
    column: str
    is_local: bool

    @property
    def shown(self) -> str:
        """The dataset and its configuration, as they are written."""
        return f"{self.dataset}/{self.config}" if self.config else self.dataset

    @property
    def folder(self) -> Path:
        """Of a local dataset."""
        return Path(self.dataset).expanduser().resolve()


class HubCorpus:
    """One column of one split, in the dataset's order, without downloading it first.

    The dataset's commit is looked up once, so `content_hash` and `documents` mean the same text.
    CorpusError when the dataset, the split or the column is not there.
    """

    def __init__(self, spec: str, *, text_field: str = "text") -> None:
        self._address = parse_address(spec, text_field)
        self.name = f"{PREFIX}{self._address.shown}:{self._address.split}:{self._address.column}"
        self._builder = _open_builder(self._address)
        self._stream = _open_stream(self._builder, self._address)

    def documents(self) -> Iterator[Document]:
        """Named by split and row: "train:17"."""
        return with_text(self.name, self._documents())

    def content_hash(self) -> str:
        """Hash of how the files are read, and of which they are.

        A file on the hub is known by the dataset's commit, a local one by its bytes.
        """
        address, config = self._address, self._builder.config
        how = {f.name: getattr(config, f.name) for f in fields(config)}
        settings = sorted((k, repr(v)) for k, v in how.items() if k not in _WHERE_FILES_ARE)
        which = [_RULES, address.split, address.column, self._builder.name, self._stream.features]
        if not address.is_local:
            which += [address.dataset, self._builder.hash]
        digest = hashlib.blake2b(repr([settings, which]).encode(), digest_size=32)
        for path in (config.data_files or {}).get(address.split, ()):
            digest.update(_identity(path, address))
        return digest.hexdigest()

    def _documents(self) -> Iterator[Document]:
        for number, row in enumerate(self._rows(), start=1):
            text = text_of(row, self._address.column, f"{self.name}: row {number}")
            yield Document(f"{self._address.split}:{number}", text)

    def _rows(self) -> Iterator[dict[str, object]]:
        batches = self._stream.iter(_ROWS_PER_BATCH)
        while True:
            with _reading(self._address):
                batch = next(batches, None)
            if batch is None:
                return
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))


def parse_address(spec: str, text_field: str) -> HubAddress:
    """`hf:NAME[:split[:column]]`; of a NAME with three parts, the last is the configuration.

    A NAME that begins with `.`, `/` or `~` is a folder, and what follows it a configuration.
    """
    name, *rest = spec.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2:
        raise UsageError(f"--corpus {spec!r}: write hf:NAME, hf:NAME:SPLIT or hf:NAME:SPLIT:COLUMN")
    split = rest[0] if rest and rest[0] else "train"
    column = rest[1] if len(rest) > 1 and rest[1] else text_field
    if name.startswith((".", "/", "~")):
        folder, config = _split_folder(name)
        return HubAddress(folder, config, split, column, is_local=True)
    owner_and_name, config = name, None
    if name.count("/") == 2:
        owner_and_name, _, config = name.rpartition("/")
    return HubAddress(owner_and_name, config, split, column, is_local=False)


def _split_folder(name: str) -> tuple[str, str | None]:
    path = Path(name).expanduser()
    if path.is_dir():
        return name, None
    folder, _, config = name.rpartition("/")
    if folder.strip("./~") and path.parent.is_dir() and not path.exists():
        return folder, config
    raise CorpusError(f"{PREFIX}{name}: no such folder; a dataset on the hub is hf:OWNER/NAME")


def _open_builder(address: HubAddress) -> Any:
    where = str(address.folder)
    if not address.is_local:
        _require_no_format(address.dataset)
        where = f"hf://datasets/{address.dataset}"  # never a folder that has the same name
    with _reading(address):
        try:
            builder = load_dataset_builder(where, address.config)
        except ValueError:
            configs = get_dataset_config_names(where)
            if address.config in configs or (address.config is None and len(configs) == 1):
                raise
            builder = None
    if builder is None:
        named = ", ".join(f"{PREFIX}{address.dataset}/{config}" for config in configs[:_MAX_NAMED])
        more = f" and {len(configs) - _MAX_NAMED} more" if len(configs) > _MAX_NAMED else ""
        fault = "no such configuration" if address.config else "has several configurations"
        raise CorpusError(f"{PREFIX}{address.shown}: {fault}; give {named}{more}")
    if builder.name not in READ_KINDS:
        raise CorpusError(
            f"{PREFIX}{address.shown}: holds {builder.name} files; "
            f"only {', '.join(READ_KINDS)} are read"
        )
    return builder


def _require_no_format(name: str) -> None:
    """CorpusError for a name such as `json`, for which `datasets` reads the working folder."""
    if name.isidentifier() and find_spec(f"{packaged_modules.__name__}.{name}") is not None:
        raise CorpusError(f"{PREFIX}{name}: is a format, not a dataset; give OWNER/NAME")


def _open_stream(builder: Any, address: HubAddress) -> IterableDataset:
    """The rows of the split with the column alone; CorpusError when it has no such column."""
    with _reading(address):
        streams = builder.as_streaming_dataset()
    if address.split not in streams:
        raise CorpusError(
            f"{PREFIX}{address.shown}: no split {address.split!r}; it has {', '.join(streams)}"
        )
    stream: IterableDataset = streams[address.split]
    if stream.features is None:  # known once a row is read, and looked at then
        return stream
    kind = stream.features.get(address.column)
    if not isinstance(kind, Value) or kind.dtype not in _TEXT_TYPES:
        texts = [
            name
            for name, value in stream.features.items()
            if isinstance(value, Value) and value.dtype in _TEXT_TYPES
        ]
        fault = "no column" if kind is None else "no text in the column"
        raise CorpusError(
            f"{PREFIX}{address.shown}: {fault} {address.column!r} "
            f"(of text: {', '.join(texts) or 'none'}; all: {', '.join(stream.features)}); "
            "name one with --text-field, or as hf:NAME:SPLIT:COLUMN"
        )
    return stream.select_columns([address.column])


def _identity(path: str, address: HubAddress) -> bytes:
    """A line that names the file, and tells when what it holds has changed."""
    if "://" in path:  # names the commit
        return f"\n{path}".encode()
    local = Path(path)
    with readable(local), local.open("rb") as file:
        content = hashlib.file_digest(file, "blake2b").hexdigest()
    return f"\n{os.path.relpath(local, address.folder)} {content}".encode()


@contextmanager
def _reading(address: HubAddress) -> Iterator[None]:
    """What `datasets` says is said by our error alone, in one line.

    It raises whatever its readers, file systems and the hub's client raise, which have no common
    base, so nothing else belongs into this block.
    """
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    had_bars = not are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    except Exception as error:
        raise CorpusError(f"{PREFIX}{address.shown}: {_fault(error, address)}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            enable_progress_bars()


def _fault(error: Exception, address: HubAddress) -> str:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return f"the hub is not reached ({reason}); check the network, or give a local folder"
    if isinstance(error, FileNotFoundError) and not address.is_local:
        return f"not found ({reason}); check the name, and sign in if it is private or gated"
    if isinstance(error, RuntimeError) and "script" in reason:
        return f"its code is never run ({reason}); give a dataset of parquet or JSON files"
    return f"cannot be read ({reason}); give a folder of .jsonl or .parquet files in its place"
