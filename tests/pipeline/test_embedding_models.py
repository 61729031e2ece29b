"""An embedding model gives the vectors that its folder asks for, or is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuron_explainer.errors import SubjectError
from neuron_explainer.llm.embedding import EmbeddingModel
from neuron_explainer.pipeline.embedding_models import load_embedding_model
from tests.tiny_embedding import modules, save_tiny_embedding, tiny_encoder, tiny_tokenizer

TEXTS = ["rivers", "words about time and years", "", "bridges over rivers and lakes and seas"]
POOLING = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def load(folder: Path, **files: Any) -> EmbeddingModel:
    return load_embedding_model(str(save_tiny_embedding(folder, **files)), device="cpu")


def embed_slowly(text: str, *, is_first: bool = False) -> np.ndarray:
    """(dimension,): one text alone, without padding."""
    ids = torch.tensor([tiny_tokenizer()(text)["input_ids"]])
    with torch.inference_mode():
        states = tiny_encoder().eval()(input_ids=ids).last_hidden_state[0].numpy()
    pooled: np.ndarray = states[0] if is_first else states.mean(0)
    return pooled / np.linalg.norm(pooled)


def test_vectors_are_those_of_each_text_alone(tmp_path: Path) -> None:
    vectors = load(tmp_path).embed_documents(TEXTS)
    assert vectors.dtype == np.float32
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, embed_slowly(text), atol=1e-5)


def test_a_folder_of_sentence_transformers_says_how_it_is_pooled(tmp_path: Path) -> None:
    first = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    model = load(tmp_path / "first", modules=modules(), **{"1_Pooling__config": first})
    np.testing.assert_allclose(
        model.embed_query(TEXTS[1]), embed_slowly(TEXTS[1], is_first=True), atol=1e-5
    )
    mean = load(tmp_path / "mean", modules=modules(), **{"1_Pooling__config": POOLING})
    np.testing.assert_allclose(mean.embed_query(TEXTS[1]), embed_slowly(TEXTS[1]), atol=1e-5)
    assert mean.fingerprint() != model.fingerprint()


def test_prompts_case_and_length_are_the_models(tmp_path: Path) -> None:
    model = load(
        tmp_path,
        config_sentence_transformers={"prompts": {"query": "words about ", "document": "seas "}},
        sentence_bert_config={"max_seq_length": 4, "do_lower_case": True},
    )
    np.testing.assert_allclose(
        model.embed_query("TIME and"), embed_slowly("words about"), atol=1e-5
    )
    (vector,) = model.embed_documents(["Lakes and rivers"])
    np.testing.assert_allclose(vector, embed_slowly("seas lakes"), atol=1e-5)


def test_a_longer_text_than_the_model_takes_is_cut(tmp_path: Path) -> None:
    model = load(tmp_path)
    long = model.embed_query("rivers " * 100)
    np.testing.assert_allclose(long, model.embed_query("rivers " * 22), atol=1e-5)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"modules": modules("Transformer", "Pooling", "Dense")}, "the modules .*Dense"),
        ({"modules": modules("CLIPModel")}, "the modules CLIPModel"),
        ({"1_Pooling__config": {"pooling_mode_lasttoken": True}}, "the pooling lasttoken"),
        ({"1_Pooling__config": POOLING | {"pooling_mode_max_tokens": True}}, "mean_tokens and max"),
        ({"1_Pooling__config": {}}, "that it does not name"),
        ({"1_Pooling__config": POOLING | {"include_prompt": False}}, "without the prompt"),
        ({"config_sentence_transformers": {"similarity_fn_name": "dot"}}, "similarity 'dot'"),
    ],
)
def test_what_is_not_done_is_refused(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    defaults = {"modules": modules(), "1_Pooling__config": POOLING}
    with pytest.raises(SubjectError, match=f"asks for .*{says}.*--embedding-model"):
        load(tmp_path, **{**defaults, **files})


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="no model folder at"):
        load_embedding_model(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SubjectError, match=r"of an embedding model$"):
        load_embedding_model(str(tmp_path / "empty"))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    save_tiny_embedding(tmp_path)
    model = tiny_encoder()
    state = {name: w for name, w in model.state_dict().items() if "layer.1.output" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(SubjectError, match="no weights for encoder"):
        load_embedding_model(str(tmp_path))
