"""A whole run on a tiny model, with hostile words in its text; some units are explained."""

from __future__ import annotations

import json
import random
from pathlib import Path

from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run_collect, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from tests.fakes import WORDS
from tests.tiny_models import save_tiny_model
from tests.viewer.served_fakes import HOSTILE


def make_run(base: Path, neurons: str = "40") -> RunFolder:
    """Two layers of 32 neurons."""
    rng = random.Random(0)
    words = [*WORDS, *HOSTILE]
    texts = (" ".join(rng.choices(words, k=rng.randint(3, 12))) for _ in range(300))
    corpus = base / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = RunSpec(
        model=str(save_tiny_model(base / "model", n_embd=8)), corpus=str(corpus), device="cpu",
        n_tokens=14_000, n_ctx=32, max_overlap=1, n_boundary_windows=60, n_resamples=20,
        explainer="token_lookup", simulator="token_lookup", neurons=neurons,
    )  # fmt: skip
    folder = RunFolder(base / "run")
    run_collect(spec, folder, ignore)
    run_explain(spec, folder, ignore)
    return folder
