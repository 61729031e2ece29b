"""Loads embedding models, by hub id or folder: encoders of transformers, in their own layout or in
that of sentence-transformers.

    modules.json                        Transformer, then Pooling, then Normalize or not
    1_Pooling/config.json               which pooling: mean, or the first token
    sentence_bert_config.json           max_seq_length, do_lower_case
    config_sentence_transformers.json   prompts by name, similarity_fn_name

A folder without modules.json is pooled by the mean. What asks for more than this (another module,
another pooling, another similarity) is refused by name: its vectors would not be the model's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils.hub import cached_file

from neuron_explainer.errors import SubjectError
from neuron_explainer.llm.embedding import EmbeddingChoices, EmbeddingModel, Pooling
from neuron_explainer.subject.hub import is_here_alone
from neuron_explainer.subject.pretrained import (
    loading,
    require_all_weights,
    resolve_placement,
)

DEFAULT_EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
KIND = "an embedding model"
MOST_TOKENS = 512
"""Of a text, where the model says nothing of it: explanations are far shorter."""
POOLINGS = {"mean_tokens": Pooling.MEAN, "cls_token": Pooling.FIRST}
MODULES = ("Transformer", "Pooling", "Normalize")
COUNT_FROM_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Their first position has the number behind the padding token's."""
QUERY_PROMPTS, DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")
"""Names that models give to what they want before a text."""


def load_embedding_model(name: str, *, device: str = "auto") -> EmbeddingModel:
    """SubjectError for what cannot be loaded whole, or asks for what is not done here."""
    placement = resolve_placement("float32", device)
    path = str(Path(name).expanduser())
    is_here = is_here_alone(name)
    with loading(name, KIND):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=is_here)
        choices = _read_choices(name, config)
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=is_here
        )
        loaded: Any = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=placement.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=is_here,
            ignore_mismatched_sizes=True,  # reported, and refused below
            output_loading_info=True,
        )
        model, report = loaded
        # The states that are pooled do not pass through BERT's own pooler.
        missing = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
        require_all_weights(name, {**report, "missing_keys": missing})
        return EmbeddingModel(model.to(placement.device), tokenizer, choices)


def _read_choices(name: str, config: Any) -> EmbeddingChoices:
    if config.is_encoder_decoder:
        raise _not_done(name, "a decoder")
    modules = _read_json(name, "modules.json")
    pooling = Pooling.MEAN if modules is None else _read_modules(name, modules)
    said = _read_json(name, "sentence_bert_config.json") or {}
    prompting = _read_json(name, "config_sentence_transformers.json") or {}
    similarity = prompting.get("similarity_fn_name")
    if similarity not in (None, "cosine"):
        raise _not_done(name, f"the similarity {similarity!r}")
    prompts = prompting.get("prompts") or {}
    default = prompts.get(prompting.get("default_prompt_name"), "")
    return EmbeddingChoices(
        pooling,
        min(said.get("max_seq_length") or MOST_TOKENS, MOST_TOKENS, _n_positions(config)),
        query_prefix=_first(prompts, QUERY_PROMPTS, default),
        document_prefix=_first(prompts, DOCUMENT_PROMPTS, default),
        is_lower_case=bool(said.get("do_lower_case")),
    )


def _n_positions(config: Any) -> int:
    n_positions: int = getattr(config, "max_position_embeddings", MOST_TOKENS)
    if config.model_type in COUNT_FROM_PADDING:
        n_positions -= config.pad_token_id + 1
    return n_positions


def _read_modules(name: str, modules: Any) -> Pooling:
    """Of the second module; the others must be those that are done here."""
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds[:2] != [*MODULES[:2]] or kinds[2:] not in ([], ["Normalize"]):
        raise _not_done(name, f"the modules {', '.join(kinds)}")
    if modules[0]["path"]:
        raise _not_done(name, f"a transformer in the folder {modules[0]['path']}")
    said = _read_json(name, f"{modules[1]['path']}/config.json") or {}
    if "pooling_mode" in said:
        wanted = [str(said["pooling_mode"])]
        known: Mapping[str, Pooling] = {"mean": Pooling.MEAN, "cls": Pooling.FIRST}
    else:
        wanted = [key.removeprefix("pooling_mode_") for key, value in said.items()
                  if key.startswith("pooling_mode_") and value]  # fmt: skip
        known = POOLINGS
    if len(wanted) != 1 or wanted[0] not in known:
        raise _not_done(name, f"the pooling {' and '.join(wanted) or 'that it does not name'}")
    if said.get("include_prompt", True) is not True:
        raise _not_done(name, "a pooling without the prompt")
    return known[wanted[0]]


def _read_json(name: str, path: str) -> Any:
    """None where the model has no such file."""
    found = cached_file(
        str(Path(name).expanduser()),
        path,
        local_files_only=is_here_alone(name),
        _raise_exceptions_for_missing_entries=False,
    )
    return None if found is None else json.loads(Path(found).read_text("utf-8"))


def _first(prompts: Mapping[str, str], names: tuple[str, ...], default: str) -> str:
    return next((prompts[name] for name in names if name in prompts), default)


def _not_done(name: str, what: str) -> SubjectError:
    return SubjectError(
        f"embedding model {name!r} asks for {what}, which is not done here; "
        f"give another --embedding-model, such as {DEFAULT_EMBEDDING_MODEL}"
    )
