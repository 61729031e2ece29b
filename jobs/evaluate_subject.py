"""Held-out loss of the shipped GPT-2 beside a unigram and a bigram model, by source.

    python -m jobs.evaluate_subject            the bundled model, as a Markdown table

All three predict exactly the same tokens: each token of each held-out document once, with
`<|endoftext|>` before the first. The GPT-2 reads windows of `n_positions` tokens that do not
overlap, so that its context is 1 to n_positions tokens; the bigram's is the token before. Both
baselines are counted on all training documents as they are (the GPT-2 saw sources reweighted).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from jobs.subject_corpus import (
    Document,
    TokenArray,
    encode_documents,
    read_documents,
    split_documents,
)
from jobs.train_subject import BUNDLED, Recipe

Losses = npt.NDArray[np.float64]
TokenLosses = Callable[[TokenArray], Losses]
"""(n + 1,) token ids of a document -> (n,) nats of each token but the first."""

ABSOLUTE_DISCOUNT = 0.75


@dataclass(frozen=True, slots=True)
class SourceLoss:
    """Total loss of one model on one source."""

    nats: float
    n_tokens: int
    size_bytes: int

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.n_tokens

    @property
    def nats_per_byte(self) -> float:
        return self.nats / self.size_bytes


class Unigram:
    """Add-one smoothed frequency of each token."""

    def __init__(self, documents: Sequence[TokenArray], vocab_size: int) -> None:
        counts = np.ones(vocab_size)
        for tokens in documents:
            counts += np.bincount(tokens[1:], minlength=vocab_size)
        self.probs = counts / counts.sum()  # (vocab,)

    def losses(self, tokens: TokenArray) -> Losses:
        probs: Losses = self.probs[tokens[1:]]
        return -np.log(probs)


class Bigram:
    """Interpolated absolute discounting (Ney, Essen & Kneser 1994), backed by the unigram.

    p(w | v) = max(c(v, w) - D, 0) / c(v) + D * distinct(v) / c(v) * p(w), and p(w) where v is new.
    """

    def __init__(self, documents: Sequence[TokenArray], unigram: Unigram) -> None:
        vocab_size = len(unigram.probs)
        counts = np.zeros(vocab_size * vocab_size, dtype=np.int32)
        for tokens in documents:
            pairs = tokens[:-1].astype(np.int64) * vocab_size + tokens[1:]
            np.add.at(counts, pairs, 1)
        self._unigram = unigram
        self._counts = counts.reshape(vocab_size, vocab_size)  # (before, after)
        self._totals = self._counts.sum(axis=1)
        self._distinct = (self._counts > 0).sum(axis=1)

    def losses(self, tokens: TokenArray) -> Losses:
        before, after = tokens[:-1], tokens[1:]
        total = self._totals[before]
        divisor = np.maximum(total, 1)
        kept = np.maximum(self._counts[before, after] - ABSOLUTE_DISCOUNT, 0) / divisor
        backed = np.where(total > 0, ABSOLUTE_DISCOUNT * self._distinct[before] / divisor, 1.0)
        probs: Losses = kept + backed * self._unigram.probs[after]
        return -np.log(probs)


def transformer_losses(model: PreTrainedModel) -> TokenLosses:
    """Losses of a causal model over windows that do not overlap."""
    n_ctx = model.config.n_positions

    @torch.inference_mode()
    def losses(tokens: TokenArray) -> Losses:
        nats = []
        for begin in range(0, len(tokens) - 1, n_ctx):
            window = torch.from_numpy(tokens[begin : begin + n_ctx + 1].astype(np.int64))
            logits = model(window[None, :-1], use_cache=False).logits[0].float()  # (seq, vocab)
            nats.append(F.cross_entropy(logits, window[1:], reduction="none"))
        return torch.cat(nats).double().numpy()

    return losses


def measure_by_source(
    token_losses: TokenLosses, documents: Sequence[Document], encoded: Sequence[TokenArray]
) -> dict[str, SourceLoss]:
    """Loss for each kind of source, and "overall" for all their tokens together."""
    table: dict[str, SourceLoss] = {}
    for document, tokens in zip(documents, encoded, strict=True):
        nats = float(token_losses(tokens).sum())
        for name in (document.kind, "overall"):
            so_far = table.get(name, SourceLoss(0.0, 0, 0))
            table[name] = SourceLoss(
                so_far.nats + nats,
                so_far.n_tokens + len(tokens) - 1,
                so_far.size_bytes + document.size_bytes,
            )
    return dict(sorted(table.items(), key=lambda item: (item[0] != "overall", item[0])))


def evaluate_subject(
    folder: Path, corpus: Path, recipe: Recipe
) -> dict[str, dict[str, SourceLoss]]:
    """Model name -> source -> loss, for the exported model in `folder` and the two baselines."""
    split = split_documents(read_documents(corpus), recipe.held_out_fraction, recipe.held_out_key)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    train = encode_documents(tokenizer, split.train)
    held_out = encode_documents(tokenizer, split.held_out)
    model = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
    )
    unigram = Unigram(train, tokenizer.get_vocab_size())
    measured = {
        "GPT-2": transformer_losses(model),
        "bigram": Bigram(train, unigram).losses,
        "unigram": unigram.losses,
    }
    return {
        name: measure_by_source(losses, split.held_out, held_out)
        for name, losses in measured.items()
    }


def format_table(results: dict[str, dict[str, SourceLoss]]) -> str:
    """Markdown: a row for each source, nats per token and per byte for each model."""
    names = list(results)
    header = ["held-out source", "tokens", *(f"{n}, nats/token" for n in names)]
    header += [f"{n}, nats/byte" for n in names]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for source, first in results[names[0]].items():
        per_token = [f"{results[n][source].nats_per_token:.3f}" for n in names]
        per_byte = [f"{results[n][source].nats_per_byte:.3f}" for n in names]
        rows.append([source, f"{first.n_tokens:,}", *per_token, *per_byte])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out loss of the bundled subject model.")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/data/corpus"))
    parser.add_argument("--model", type=Path, default=BUNDLED, help="folder of an exported model")
    flags = parser.parse_args()
    table = format_table(evaluate_subject(flags.model, flags.corpus, Recipe()))
    Console(soft_wrap=True).print(table, markup=False, highlight=False)


if __name__ == "__main__":
    main()
