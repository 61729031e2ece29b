"""The text the shipped GPT-2 learns from: documents, hold-out, byte-level BPE, token streams."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"

TokenArray = npt.NDArray[np.uint16]


class CorpusError(Exception):
    """The corpus folder cannot be used; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Document:
    """One line of the corpus."""

    text: str
    kind: str
    """The source by which the mixture is weighted and the loss reported: books, code, ..."""
    license: str

    @property
    def size_bytes(self) -> int:
        return len(self.text.encode())


class Split(NamedTuple):
    train: list[Document]
    held_out: list[Document]
    n_duplicates: int


@dataclass(frozen=True, slots=True)
class TokenStream:
    """The documents of one source, one after another, each opened by `<|endoftext|>`."""

    tokens: TokenArray  # (n_tokens,)
    starts: npt.NDArray[np.int64]  # (n_documents,): where each `<|endoftext|>` stands


def read_documents(corpus: Path) -> Iterator[Document]:
    """Every line of every `*.jsonl` in `corpus`, in the order of file names."""
    paths = sorted(corpus.glob("*.jsonl"))
    if not paths:
        raise CorpusError(f"no *.jsonl in {corpus}; pass the folder with --corpus")
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for n, line in enumerate(lines, start=1):
                yield _parse_document(line, where=f"{path}:{n}")


def _parse_document(line: str, where: str) -> Document:
    try:
        fields = json.loads(line)
        return Document(fields["text"], fields["kind"], fields["license"])
    except (json.JSONDecodeError, KeyError, TypeError) as e:
        raise CorpusError(f"{where}: expected an object with text, kind and license") from e


def split_documents(documents: Iterable[Document], fraction: float, key: str) -> Split:
    """Drop exact repeats of a text, then hold out about `fraction` of what is left.

    The choice looks at the text alone, so it survives reordering and additions to the corpus.
    """
    split = Split([], [], 0)
    seen: set[str] = set()
    n_duplicates = 0
    for document in documents:
        if document.text in seen:
            n_duplicates += 1
            continue
        seen.add(document.text)
        held = is_held_out(document.text, fraction, key)
        (split.held_out if held else split.train).append(document)
    return split._replace(n_duplicates=n_duplicates)


def is_held_out(text: str, fraction: float, key: str) -> bool:
    """Keyed hash of the text, read as a number in [0, 1), compared with `fraction`."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=key.encode()).digest()
    return int.from_bytes(digest, "big") / 2**64 < fraction


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with GPT-2's pre-tokenization; id 0 is `<|endoftext|>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(END_OF_TEXT, normalized=False, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode_documents(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[TokenArray]:
    """Each document as `<|endoftext|>` and its tokens, without a closing one.

    A text that itself spells `<|endoftext|>` is encoded as those plain characters.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    tokenizer.encode_special_tokens = True
    encodings = tokenizer.encode_batch_fast([d.text for d in documents], add_special_tokens=False)
    return [np.array([end, *encoding.ids], dtype=np.uint16) for encoding in encodings]


def build_streams(tokenizer: Tokenizer, documents: Sequence[Document]) -> dict[str, TokenStream]:
    """One stream for each kind of source, documents in the order given."""
    streams = {}
    for kind in sorted({d.kind for d in documents}):
        encoded = encode_documents(tokenizer, [d for d in documents if d.kind == kind])
        lengths = np.array([len(tokens) for tokens in encoded], dtype=np.int64)
        streams[kind] = TokenStream(np.concatenate(encoded), np.cumsum(lengths) - lengths)
    return streams


class CropSampler:
    """Random crops of the streams; step `n` gives the same batch in every process."""

    def __init__(
        self,
        streams: dict[str, TokenStream],
        *,
        exponent: float,
        start_fraction: float,
        seed: int,
    ) -> None:
        """A source of n tokens has weight n ** `exponent`; a crop begins at the first token of a
        document with probability `start_fraction`, anywhere in the stream otherwise."""
        self._streams = [streams[kind] for kind in sorted(streams)]
        sizes = np.array([len(stream.tokens) for stream in self._streams], dtype=np.float64)
        self.weights = sizes**exponent / (sizes**exponent).sum()  # (source,)
        digest = hashlib.blake2b(digest_size=8)
        for stream in self._streams:
            digest.update(stream.tokens.tobytes())
        self.digest = digest.hexdigest()
        self._start_fraction = start_fraction
        self._seed = seed

    def batch(self, step: int, n_crops: int, length: int) -> npt.NDArray[np.int64]:
        """(n_crops, length); a pure function of the seed and the step, so resuming is exact."""
        rng = np.random.default_rng((self._seed, step))
        chosen = rng.choice(len(self._streams), size=n_crops, p=self.weights)
        return np.stack([self._crop(self._streams[source], length, rng) for source in chosen])

    def _crop(
        self, stream: TokenStream, length: int, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        last = max(len(stream.tokens) - length, 0)
        begin = int(rng.integers(last + 1))
        if rng.random() < self._start_fraction:
            begin = int(rng.choice(stream.starts))
        # A crop that runs over the end goes on at the beginning: no short rows.
        return stream.tokens[np.arange(begin, begin + length) % len(stream.tokens)].astype(np.int64)
