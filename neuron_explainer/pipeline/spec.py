"""Every choice of a run, in one place, and the fingerprint that names a set of choices."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from neuron_explainer.collector.plans import MIN_INTERVAL_S, CollectPlan, Cut, Shard, WindowPlan
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.model_names import check_address
from neuron_explainer.records.scale import CalibrationKind
from neuron_explainer.records.splits import RANDOM_SPLITS, TOP_SPLITS

COLLECT = "collect"
EXPLAIN = "explain"
ASK = "ask"
"""Stage of the choices that matter where a language model explains or simulates."""
REACH = "reach"
"""Stage of the choices that say how a language model is reached, and change no result."""
WHERE = "where"
"""Stage of the choices that say where to run, or for which units, and change no unit's result."""
PATTERN = "pattern"
"""Stage of the choices that matter where patterns are found."""
PATTERNS = "patterns"
TOKEN_LOOKUP = "token_lookup"
EMBEDDED = (PATTERNS, TOKEN_LOOKUP)
"""Explainers that ask no language model; each has a simulator of its own."""
WINDOWS = "windows"
"""Evidence for language models: the strongest windows as they are."""
SAME_MODEL = "auto"
"""A simulator that is the explainer's own."""
ALL_NEURONS = "all"
N_ASKED = 50
"""Neurons that language models are asked about when none are named: each costs many requests."""
FLAGS = {"n_tokens": "--tokens", "cut": "--windows"}
"""Flags that are not the field's name."""


def _choice(default: Any, stage: str, text: str) -> Any:
    return field(default=default, metadata={"stage": stage, "help": text})


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to explain, on which text, and how; the defaults are the embedded run."""

    model: str = _choice("bundled", COLLECT, "“bundled”, a hub id, or a local folder.")
    corpus: str = _choice(
        "pydocs",
        WHERE,
        "“pydocs” (documentation on this machine), a file or folder, hf:DATASET, or a mix of "
        "these: pydocs=3,notes.jsonl=1.",
    )
    layers: str | None = _choice(None, COLLECT, "Layers, such as 0,2-5; all when not given.")
    units: str | None = _choice(
        None,
        COLLECT,
        "Record these alone: a list such as 0:3,2:417, or a file: LAYER:NEURON, one a line, or a "
        "table with columns layer and neuron. Every one when not given.",
    )
    neurons: str | None = _choice(
        None,
        WHERE,
        "How many, drawn at random, a list such as 0:3,2:417, a file of one, or all; all when not "
        "given, 50 where language models are asked.",
    )
    n_tokens: int = _choice(1_500_000, COLLECT, "Tokens of text to read.")
    seed: int = _choice(0, COLLECT, "Decides every random choice.")
    memory_gb: float | None = _choice(
        None, WHERE, "Most memory to use; layers that do not fit are read in passes of their own."
    )
    checkpoint_s: float = _choice(
        MIN_INTERVAL_S, WHERE, "Seconds between two checkpoints of a collection, at least."
    )
    shard: str | None = _choice(
        None, WHERE, "Such as 3/16: read the third of sixteen parts; then merge."
    )
    dtype: str = _choice("auto", COLLECT, "auto, float32, bfloat16 or float16.")
    device: str = _choice("auto", WHERE, "auto, cpu, cuda, cuda:1, …")
    site_module: str | None = _choice(
        None, COLLECT, "Module whose input is the neurons, such as layers.{layer}.mlp.down_proj."
    )
    activation_function: str | None = _choice(
        None, COLLECT, "In place of the model's; quick_gelu made the published GPT-2 records."
    )
    cut: Cut = _choice(  # noqa: RUF009 - a field, as the others
        Cut.ALL, COLLECT, "All consecutive windows of a document, or one at random."
    )
    text_field: str = _choice(
        "text", COLLECT, "Field that holds the text, in JSON, parquet and datasets."
    )
    chat_template: bool = _choice(
        False, COLLECT, "Each document is a user's message in the model's own chat template."
    )
    n_ctx: int = _choice(64, COLLECT, "Longest window, in tokens.")
    max_a_document: int | None = _choice(
        None, COLLECT, "At most this many windows of one document; no limit when not given."
    )
    max_overlap: float = _choice(
        0.5, COLLECT, "Leave out windows of which more repeats earlier windows; 1 keeps all."
    )
    skip_first: int = _choice(
        0, COLLECT, "Positions at a window's start that do not count, such as attention sinks."
    )
    max_norm_ratio: float | None = _choice(
        None, COLLECT, "Tokens whose residual stream is longer than this many medians do not count."
    )
    fit_share: float = _choice(
        0.5, COLLECT, "Share of the documents to fit token means and bands on; never scored on."
    )
    block_size: int = _choice(64, COLLECT, "Windows a forward pass.")
    top_k: int = _choice(20, COLLECT, "Top windows kept of each neuron.")
    n_a_band: int = _choice(10, COLLECT, "Windows kept of each band of the maximum.")
    n_random: int = _choice(32, COLLECT, "Random windows, shared by all neurons.")
    n_boundary_windows: int = _choice(2048, COLLECT, "Fit windows that the bands are made from.")
    token_means_gb: float = _choice(2.0, COLLECT, "Memory for token means; the rest share one.")
    explainer: str = _choice(
        PATTERNS,
        EXPLAIN,
        "What writes the explanations: patterns, token_lookup, openai:MODEL, hf:MODEL.",
    )
    simulator: str = _choice(
        SAME_MODEL,
        EXPLAIN,
        "What predicts activations from them: openai:MODEL, hf:MODEL, or auto: the explainer's "
        "model, or its own rule.",
    )
    n_per_split: int = _choice(5, EXPLAIN, "Top windows to score on, and as many random ones.")
    n_resamples: int = _choice(200, EXPLAIN, "Bootstrap resamples of the interval.")
    calibration: CalibrationKind = _choice(  # noqa: RUF009 - a field, as the others
        CalibrationKind.LINEAR, EXPLAIN, "Map to raw activations, fitted on the calibration split."
    )
    max_missing_share: float = _choice(
        0.1, EXPLAIN, "No score where more of the tokens than this have no prediction."
    )
    pattern_tokens: int | None = _choice(
        None,
        PATTERN,
        "Tokens of forward passes to find a neuron's patterns with, at most; as suits the "
        "collection when not given.",
    )
    n_contexts: int = _choice(512, PATTERN, "Contexts kept of a neuron that say most beyond words.")
    explainer_prompt: str = _choice("token_activation", ASK, "How the explainer is shown a neuron.")
    evidence: str = _choice(
        WINDOWS,
        ASK,
        "What a language model reads of a neuron: its strongest windows, or patterns: the shortest "
        "texts that do the same, for fewer tokens.",
    )
    n_explanations: int = _choice(
        1, ASK, "Explanations a neuron; the best on the calibration split is scored."
    )
    explainer_context: int = _choice(8192, ASK, "Tokens that the explainer's prompt may have.")
    simulation: str = _choice(
        "auto",
        ASK,
        "all_at_once, streaming, structured, one_at_a_time, distilled, or auto: the best that the "
        "simulator's server offers.",
    )
    simulator_context: int | None = _choice(
        None, ASK, "Tokens that the simulator's prompt may have; what the model says, or 8192."
    )
    simulator_tokenizer: str | None = _choice(
        None, ASK, "Tokenizer of a server's model, for all_at_once: a hub id or a local folder."
    )
    reasoning_effort: str | None = _choice(None, ASK, "Of reasoning models: low, medium, high.")
    model_dtype: str = _choice(
        "auto", ASK, "Of hf:… models that are asked; the checkpoint's own when not given."
    )
    base_url: str | None = _choice(
        None, REACH, "Server of openai:… models, such as http://localhost:11434/v1."
    )
    order: str = _choice(
        "random",
        REACH,
        "Which neurons first: random, lookup (best by the token lookup table), density (rarest "
        "first), or a list or file as for --units.",
    )
    simulator_base_url: str | None = _choice(
        None, REACH, "The simulator's server, where it is another one."
    )
    api_key_env: str = _choice("OPENAI_API_KEY", REACH, "Environment variable that holds the key.")
    requests_a_minute: int = _choice(500, REACH, "Most requests a minute, of all kinds together.")
    tokens_a_minute: int | None = _choice(
        None, REACH, "Most tokens a minute; no limit if not given."
    )
    max_in_flight: int = _choice(128, REACH, "Most requests under way; adapts below it by itself.")
    timeout_s: float = _choice(120.0, REACH, "Seconds to wait for an answer.")
    batch: bool = _choice(
        False, REACH, "Ask through the provider's batch interface: half the price, within a day."
    )
    budget_usd: float | None = _choice(None, REACH, "Stop before more than this is spent.")
    prices: str | None = _choice(None, REACH, "A file of prices beside those that are known.")
    cache: str | None = _choice(
        None, REACH, "File of answers to share between runs; the run folder's own if not given."
    )
    batch_size: int | None = _choice(
        None, REACH, "Windows that a local simulator predicts at once; as suits the device."
    )

    def __post_init__(self) -> None:
        at_least = {"n_tokens": 1, "n_ctx": 2, "block_size": 1, "top_k": 1, "n_a_band": 1,
                    "n_random": 1, "n_boundary_windows": 1, "n_per_split": 1}  # fmt: skip
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UsageError(
                    f"{flag_of(name)} must be at least {least}, not {getattr(self, name)}"
                )
        if self.max_a_document is not None and self.max_a_document < 1:
            raise UsageError(f"--max-a-document must be at least 1, not {self.max_a_document}")
        for name in ("seed", "n_resamples", "pattern_tokens", "n_contexts"):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"{flag_of(name)} must not be negative")
        if not 0 <= self.token_means_gb < float("inf"):
            raise UsageError(f"--token-means-gb must be a size, not {self.token_means_gb}")
        if not 0 <= self.max_overlap <= 1:
            raise UsageError(f"--max-overlap must lie between 0 and 1, not {self.max_overlap}")
        if not 0 <= self.skip_first < self.n_ctx:
            raise UsageError(
                f"--skip-first must lie between 0 and --n-ctx {self.n_ctx}, not {self.skip_first}"
            )
        if self.max_norm_ratio is not None and not self.max_norm_ratio > 1:
            raise UsageError(f"--max-norm-ratio must be more than 1, not {self.max_norm_ratio}")
        if not 0 <= self.checkpoint_s < float("inf"):
            raise UsageError(f"--checkpoint-s must be a time, not {self.checkpoint_s}")
        if self.memory_gb is not None and not 0 < self.memory_gb < float("inf"):
            raise UsageError(f"--memory-gb must be a size, not {self.memory_gb}")
        self._check_asking()
        if not 0 < self.fit_share < 1:
            raise UsageError(f"--fit-share must lie between 0 and 1, not {self.fit_share}")

    def _check_asking(self) -> None:
        """UsageError for choices about language models that cannot be meant."""
        for name in ("n_explanations", "requests_a_minute", "tokens_a_minute", "max_in_flight",
                     "batch_size", "explainer_context", "simulator_context"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{flag_of(name)} must be at least 1, not {value}")
        if self.evidence not in (WINDOWS, PATTERNS):
            raise UsageError(f"--evidence {self.evidence!r}: write {WINDOWS} or {PATTERNS}")
        if not 0 <= self.max_missing_share < 1:
            raise UsageError(
                f"--max-missing-share must lie between 0 and 1, not {self.max_missing_share}"
            )
        if self.budget_usd is not None and not 0 <= self.budget_usd < float("inf"):
            raise UsageError(f"--budget-usd must be a sum of money, not {self.budget_usd}")
        if not 0 < self.timeout_s < float("inf"):
            raise UsageError(f"--timeout-s must be a time, not {self.timeout_s}")
        for name in ("base_url", "simulator_base_url"):
            if getattr(self, name) is not None:
                check_address(getattr(self, name), flag_of(name))

    @property
    def asks_models(self) -> bool:
        """Whether a language model explains or simulates."""
        return not {self.explainer, self.simulator} <= {*EMBEDDED, SAME_MODEL}

    @property
    def needs_patterns(self) -> bool:
        """Whether patterns explain, or are what a language model that explains is shown."""
        shown = self.explainer if self.explainer in EMBEDDED else self.evidence
        return shown == PATTERNS

    @property
    def neurons_wanted(self) -> str | None:
        """`neurons`, or what it is when not given; None: all."""
        if self.neurons is None and self.asks_models:
            return str(N_ASKED)
        return None if self.neurons == ALL_NEURONS else self.neurons

    @property
    def window_plan(self) -> WindowPlan:
        return plan_from(WindowPlan, asdict(self), min_tokens=self.skip_first + 1)

    @property
    def collect_plan(self) -> CollectPlan:
        return plan_from(CollectPlan, asdict(self))

    def require_scorable(self) -> None:
        """UsageError when the windows that are kept are too few for the splits to score on."""
        n = self.n_per_split
        for name, n_splits in (("top_k", len(TOP_SPLITS)), ("n_random", len(RANDOM_SPLITS))):
            if getattr(self, name) < n * n_splits:
                raise UsageError(
                    f"{flag_of(name)} {getattr(self, name)} is too few for --n-per-split {n}: "
                    f"{n_splits} splits need {n * n_splits}"
                )

    def choices(self, stage: str) -> dict[str, Any]:
        """The choices that can change the results of a stage."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["stage"] == stage}


Plan = TypeVar("Plan", WindowPlan, CollectPlan)


def plan_from(plan: type[Plan], choices: Mapping[str, Any], **others: Any) -> Plan:
    """A plan of the choices that it names; KeyError when one is not there."""
    named = {f.name: choices[f.name] for f in fields(plan) if f.name not in others}
    return plan(**named, **others)


def parse_shard(text: str | None) -> Shard:
    """`3/16` -> Shard(3, 16); None: everything. UsageError for what cannot be meant."""
    if text is None:
        return Shard()
    match = re.fullmatch(r"\s*(\d+)/(\d+)\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r}: write the part and how many there are, such as 3/16")
    return Shard(int(match[1]), int(match[2]))


def flag_of(name: str) -> str:
    """The flag that sets a field: `--fit-share` for `fit_share`."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def fingerprint(choices: Mapping[str, Any]) -> str:
    """Names a set of choices: equal choices, equal fingerprints."""
    text = json.dumps(choices, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def parse_layers(text: str | None, n_layers: int) -> list[int]:
    """`0,2-5` -> [0, 2, 3, 4, 5]; None: all of the model's. UsageError for what it has not."""
    if text is None:
        return list(range(n_layers))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise UsageError(f"--layers {text!r}: write numbers and ranges, such as 0,2-5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= n_layers or first > last:
            raise UsageError(f"--layers {text!r}: the model has layers 0-{n_layers - 1}")
        layers.update(range(first, last + 1))
    return sorted(layers)
