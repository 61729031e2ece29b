"""Train the small GPT-2 shipped in `neuron_explainer/subject/bundled`, resumably, on a CPU.

    python -m jobs.train_subject                  the shipped recipe, from the start or where it was
    python -m jobs.train_subject --n-steps 500    a shorter schedule

The recipe: Muon for the matrices of the blocks (Jordan 2024, as in `torch.optim.Muon`), AdamW for
the rest, and a warmup-stable-decay schedule (Hu et al. 2024, arXiv:2404.06395). Until the decay
sets in nothing depends on the number of steps, so a run under way can be shortened or extended.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from jobs.subject_corpus import (
    END_OF_TEXT,
    CropSampler,
    TokenStream,
    build_streams,
    read_documents,
    split_documents,
    train_tokenizer,
)
from neuron_explainer.stores.atomic import replacing, write_text

BUNDLED = Path(__file__).parents[1] / "neuron_explainer" / "subject" / "bundled"


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the network."""

    n_layers: int = 4
    d_model: int = 192
    n_heads: int = 6
    d_mlp: int = 768
    n_ctx: int = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice that changes the weights, apart from the corpus itself."""

    shape: Shape = field(default_factory=Shape)
    vocab_size: int = 4096
    held_out_fraction: float = 0.01
    held_out_key: str = "neuron-explainer"
    """Key of the hash that decides which documents are never trained on."""
    source_exponent: float = 0.8
    """A source of n tokens is drawn with weight n ** this: 1 as large as it is, 0 all alike."""
    start_fraction: float = 0.1
    """Share of the crops that begin with `<|endoftext|>` at the start of a document."""
    seed: int = 0
    n_steps: int = 3450
    decay_fraction: float = 0.3
    """Last part of the steps, over which the learning rates fall linearly to zero."""
    warmup_steps: int = 100
    batch_size: int = 32
    """Crops of `n_ctx` predicted tokens in a step."""
    matrix_lr: float = 0.02
    other_lr: float = 0.008
    weight_decay: float = 0.05
    bf16: bool = True
    """Multiply in bfloat16; weights, gradients and the loss stay in float32."""
    compiled: bool = True
    """Fuse the forward and backward pass with `torch.compile`, which needs a C++ compiler."""

    def learning_rate(self, step: int) -> float:
        """Factor on both learning rates at `step`, counted from 0."""
        decay_steps = max(1, round(self.n_steps * self.decay_fraction))
        return min(1.0, (step + 1) / self.warmup_steps, (self.n_steps - step) / decay_steps)

    def fingerprint(self) -> str:
        """Names the trajectory before the decay: all fields but those of the schedule's end."""
        fields = dataclasses.asdict(self)
        del fields["n_steps"], fields["decay_fraction"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


class ResumeError(Exception):
    """The checkpoint in the work folder belongs to another run."""


def train_subject(
    recipe: Recipe,
    corpus: Path,
    work: Path,
    *,
    checkpoint_every: int = 250,
    stop_after: int | None = None,
    console: Console | None = None,
) -> GPT2LMHeadModel:
    """Go on from the checkpoint in `work`, or from the start, and train to the end of `recipe`.

    `stop_after`: leave after that many steps of the schedule, with a checkpoint.
    """
    console = console or Console(quiet=True)
    work.mkdir(parents=True, exist_ok=True)
    streams = prepare_streams(recipe, corpus, work, console)
    sampler = CropSampler(
        streams,
        exponent=recipe.source_exponent,
        start_fraction=recipe.start_fraction,
        seed=recipe.seed,
    )
    trainer = Trainer(recipe, sampler)
    if (work / "checkpoint.pt").exists():
        trainer.load(work / "checkpoint.pt")
        console.print(f"resuming at step {trainer.step:,}")
    progress = Progress(console, recipe, trainer.step)
    last = min(recipe.n_steps, stop_after or recipe.n_steps)
    while trainer.step < last:
        loss = trainer.train_step()
        progress.report(trainer.step, loss)
        if trainer.step % checkpoint_every == 0 or trainer.step == last:
            trainer.save(work / "checkpoint.pt")
    return trainer.model


def prepare_streams(
    recipe: Recipe, corpus: Path, work: Path, console: Console
) -> dict[str, TokenStream]:
    """Token streams of the training documents; the tokenizer is fitted once and kept in `work`."""
    split = split_documents(read_documents(corpus), recipe.held_out_fraction, recipe.held_out_key)
    console.print(
        f"{len(split.train):,} training documents, {len(split.held_out):,} held out, "
        f"{split.n_duplicates:,} exact duplicates dropped"
    )
    path = work / "tokenizer.json"
    if not path.exists():
        tokenizer = train_tokenizer((d.text for d in split.train), recipe.vocab_size)
        with replacing(path) as beside:
            tokenizer.save(str(beside))
    streams = build_streams(Tokenizer.from_file(str(path)), split.train)
    console.print(f"{sum(len(s.tokens) for s in streams.values()):,} training tokens")
    return streams


class Trainer:
    """The model, its optimizers and the number of steps done: all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, sampler: CropSampler) -> None:
        self.recipe = recipe
        self.step = 0
        self._sampler = sampler
        self.model = build_model(recipe)
        self._optimizers = build_optimizers(self.model, recipe)
        self._loss = torch.compile(next_token_loss) if recipe.compiled else next_token_loss

    def train_step(self) -> Tensor:
        """One batch, one update; the loss in nats per token, before the update."""
        recipe = self.recipe
        crops = self._sampler.batch(self.step, recipe.batch_size, recipe.shape.n_ctx + 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            loss = self._loss(self.model, torch.from_numpy(crops))
        loss.backward()
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * recipe.learning_rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.detach()

    def save(self, path: Path) -> None:
        state = {
            "fingerprint": self._fingerprint(),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        with replacing(path) as beside:
            torch.save(state, beside)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["fingerprint"] != self._fingerprint():
            raise ResumeError(
                f"{path} was made by another recipe or corpus; choose an empty --work folder"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def _fingerprint(self) -> str:
        return f"{self.recipe.fingerprint()}-{self._sampler.digest}"


def build_model(recipe: Recipe) -> GPT2LMHeadModel:
    """A fresh GPT-2 whose weights depend on `recipe.seed` alone."""
    shape = recipe.shape
    config = GPT2Config(
        vocab_size=recipe.vocab_size,
        n_positions=shape.n_ctx,
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_inner=shape.d_mlp,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return GPT2LMHeadModel(config)


def build_optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks; AdamW for embeddings, biases and layer norms."""
    blocks = list(model.transformer.h.parameters())
    matrices = [p for p in blocks if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    muon = torch.optim.Muon(
        matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay, momentum=0.95
    )
    adamw = torch.optim.AdamW(others, lr=recipe.other_lr, weight_decay=0.0, betas=(0.9, 0.98))
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return [muon, adamw]


def next_token_loss(model: GPT2LMHeadModel, crops: Tensor) -> Tensor:
    """Mean nats per predicted token; crops: (batch, seq + 1)."""
    logits = model(crops[:, :-1], use_cache=False).logits  # (batch, seq, vocab)
    return F.cross_entropy(logits.flatten(0, 1).float(), crops[:, 1:].flatten())


class Progress:
    """A line now and then: step, smoothed loss, tokens per second, time left."""

    def __init__(self, console: Console, recipe: Recipe, step: int, every: int = 50) -> None:
        self._console, self._recipe, self._every = console, recipe, every
        self._losses: list[float] = []
        self._first_step, self._started = step, time.monotonic()

    def report(self, step: int, loss: Tensor) -> None:
        self._losses.append(loss.item())
        if step % self._every and step != self._recipe.n_steps:
            return
        step_s = (time.monotonic() - self._started) / (step - self._first_step)
        rate = self._recipe.batch_size * self._recipe.shape.n_ctx / step_s
        left_min = (self._recipe.n_steps - step) * step_s / 60
        self._console.print(
            f"step {step:,} of {self._recipe.n_steps:,}  loss {np.mean(self._losses):.4f}  "
            f"{rate:,.0f} tokens/s  {left_min:.0f} min left"
        )
        self._losses.clear()


def export_model(model: GPT2LMHeadModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write what `AutoModelForCausalLM` and `AutoTokenizer` read, with the weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {  # without lm_head.weight, which is tied to the token embedding
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    with replacing(folder / "model.safetensors") as beside:
        beside.write_bytes(save(weights, metadata={"format": "pt"}))
    config = GPT2Config.from_dict(model.config.to_dict())
    config.dtype = torch.float16
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(folder)
    end = model.config.eos_token_id
    generation = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    GenerationConfig.from_dict(generation).save_pretrained(folder)
    export_tokenizer(tokenizer, model.config.n_positions, folder)


def export_tokenizer(tokenizer: Tokenizer, n_ctx: int, folder: Path) -> None:
    """Write tokenizer.json, and the settings that make `AutoTokenizer` read it as it is."""
    with replacing(folder / "tokenizer.json") as beside:
        tokenizer.save(str(beside))
    settings = {
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "model_max_length": n_ctx,
        # Not GPT2Tokenizer, which builds its own from the merges; known to transformers 4 and 5.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")


def parse_flags(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """One flag for each field of Recipe and Shape, and the folders."""
    parser = argparse.ArgumentParser(description="Train the bundled subject model.")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/data/corpus"))
    parser.add_argument("--work", type=Path, default=Path("../train_subject"), help="checkpoints")
    parser.add_argument("--export", type=Path, default=BUNDLED, help="folder of the finished model")
    parser.add_argument("--n-threads", type=int, default=os.cpu_count())
    parser.add_argument("--checkpoint-every", type=int, default=250, help="steps")
    parser.add_argument("--stop-after", type=int, help="leave, with a checkpoint, at this step")
    for name, default in [*flag_defaults(Shape()), *flag_defaults(Recipe())]:
        flag = "--" + name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(flag, default=default, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(flag, default=default, type=type(default))
    return parser.parse_args(arguments)


def flag_defaults(settings: Recipe | Shape) -> list[tuple[str, Any]]:
    """Field names and defaults, but for the nested shape."""
    return [
        (f.name, getattr(settings, f.name))
        for f in dataclasses.fields(settings)
        if f.name != "shape"
    ]


def recipe_from_flags(flags: argparse.Namespace) -> Recipe:
    shape = Shape(**{name: getattr(flags, name) for name, _ in flag_defaults(Shape())})
    named = {name: getattr(flags, name) for name, _ in flag_defaults(Recipe())}
    return Recipe(shape=shape, **named)


def main() -> None:
    flags = parse_flags()
    torch.set_num_threads(flags.n_threads)
    # Without this, compiled code adds up the embedding's gradient in whatever order threads come.
    torch.use_deterministic_algorithms(True)
    model = train_subject(
        recipe_from_flags(flags),
        flags.corpus,
        flags.work,
        checkpoint_every=flags.checkpoint_every,
        stop_after=flags.stop_after,
        console=Console(),
    )
    export_model(model, Tokenizer.from_file(str(flags.work / "tokenizer.json")), flags.export)


if __name__ == "__main__":
    main()
