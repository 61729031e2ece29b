"""Texts that would run, break out, or turn a page around if it took them for anything but text.

A subject whose tokens they are, a corpus of them, and results that say them.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import AddedToken
from transformers import GPT2Config, GPT2LMHeadModel

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.stores.results import BASELINE, Results
from tests.e2e.browser import RAN
from tests.e2e.command_lines import write_lines
from tests.tiny_models import byte_tokenizer

RUN_IT = f"window.{RAN}=1"
SCRIPT = f"<script>{RUN_IT}</script>"
LONG_TOKEN = "long" * 2560
"""10 kB without a place to break a line at."""
TOKENS = (
    SCRIPT,
    f"</script>{SCRIPT}",
    f'"><img src=x onerror={RUN_IT}>',
    f"' onmouseover='{RUN_IT}",
    f"<svg/onload={RUN_IT}>",
    f"--></title></textarea></style>{SCRIPT}",
    f"javascript:{RUN_IT}",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "&lt;b&gt;&amp;&#x27;",
    "http://example.com/x.png",
    "\u202egnp.exe\u202c",
    "\u2066\u200f\u2028\ufeff",
    "\x01\x07\x08\x0b\x1b[31m\x1f\x7f\x85",
    "עברית",
    "e\u0301\u0302\u0303" * 20,
    LONG_TOKEN,
)  # fmt: skip
"""Each is one token of the subject."""
IN_BYTES = ("😀", "🧑\u200d🚀", "\U000e0041", "ﷺ")
"""Which the subject reads byte by byte: tokens that are no whole character."""
INDENTS = ("        ", "\n\n\t\t")
"""Tokens of nothing but white space, as code has them."""
TEXT = f" words about {' '.join(token[:80] for token in TOKENS)} {' '.join(IN_BYTES)}"
"""Of an explanation."""


def save_model(folder: Path, n_embd: int = 8) -> Path:
    """Two layers of 4 * n_embd units, seeded."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TOKENS + INDENTS])
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_layer=2, n_embd=n_embd, n_head=2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_corpus(path: Path, n_documents: int = 250) -> Path:
    """Documents of hostile tokens, among plain words and characters that are many tokens."""
    rng = random.Random(0)
    plain = [f"word{number}" for number in range(30)]
    kinds = (plain, TOKENS, IN_BYTES, INDENTS)
    write_lines(
        path,
        *(
            {"text": " ".join(rng.choice(rng.choice(kinds)) for _ in range(4 + number % 12))}
            for number in range(n_documents)
        ),
    )
    return path


def add_hostile_method(results: Path) -> None:
    """What a language model might say of each unit of a run, the worst of it."""
    with Results(results) as file:
        baseline = file.current_method()
        units = list(file.units(baseline))
        file.use_method("hostile", {"explainer": f"openai:{TEXT}", BASELINE: baseline})
        for number, unit in enumerate(units):
            if number % 5 == 4:
                file.add_unexplained("hostile", unit.neuron_id, "windows", f"refused: {TEXT}")
                continue
            explanation = Explanation(
                unit.neuron_id, TEXT, explainer=f"windows{TEXT}", model=TEXT, prompt_version=TEXT
            )
            scores = {
                "top_and_random": Score("ev_correlation_score", number / len(units), 640),
                TOKENS[2]: Score("ev_correlation_score", None, 0, reason=TEXT),
            }
            windows = file.windows(baseline, unit.neuron_id)
            file.add_explained(
                "hostile",
                explanation,
                ScoredSimulation(
                    scorer=TEXT,
                    simulator=f"simulated {TEXT}",
                    scores=scores,
                    windows=windows,
                    headline="top_and_random",
                ),
            )
