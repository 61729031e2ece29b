"""The job that trains the bundled GPT-2: what is trained on, resuming, and the export."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.evaluate_subject import Bigram, Unigram, measure_by_source, transformer_losses
from jobs.subject_corpus import (
    CropSampler,
    Document,
    build_streams,
    encode_documents,
    read_documents,
    split_documents,
    train_tokenizer,
)
from jobs.train_subject import (
    Recipe,
    ResumeError,
    Shape,
    build_model,
    export_model,
    next_token_loss,
    train_subject,
)

TINY = Recipe(
    shape=Shape(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=16),
    vocab_size=300,
    held_out_fraction=0.3,
    n_steps=8,
    warmup_steps=2,
    batch_size=4,
    compiled=False,
)
WORDS = ["the", "a", "cat", "dog", "tree", "river", "sees", "red", "old", "and", ",", "été", "数"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = random.Random(0)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for kind in ("books", "code"):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 60))) for _ in range(30)]
        lines = [json.dumps({"text": t, "kind": kind, "license": "MIT"}) for t in texts]
        (folder / f"{kind}.jsonl").write_text("\n".join(lines + lines[:2]) + "\n")
    return folder


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_resumed_run_has_the_same_weights_as_an_undisturbed_one(corpus: Path, tmp_path: Path):
    undisturbed = train_subject(TINY, corpus, tmp_path / "a")
    # A killed run leaves its last checkpoint: here the one of step 3, five steps being lost.
    train_subject(TINY, corpus, tmp_path / "b", checkpoint_every=3, stop_after=3)
    resumed = train_subject(TINY, corpus, tmp_path / "b")
    torch.testing.assert_close(weights(resumed), weights(undisturbed), rtol=0, atol=0)


def test_a_longer_schedule_goes_on_from_a_shorter_one_before_its_decay(
    corpus: Path, tmp_path: Path
):
    shorter = Recipe(**{**fields_of(TINY), "n_steps": 6})
    train_subject(shorter, corpus, tmp_path / "a", stop_after=4)
    extended = train_subject(TINY, corpus, tmp_path / "a")
    undisturbed = train_subject(TINY, corpus, tmp_path / "b")
    torch.testing.assert_close(weights(extended), weights(undisturbed), rtol=0, atol=0)


def test_checkpoint_of_another_recipe_is_refused(corpus: Path, tmp_path: Path):
    train_subject(TINY, corpus, tmp_path / "a", stop_after=1)
    other = Recipe(**{**fields_of(TINY), "matrix_lr": 0.5})
    with pytest.raises(ResumeError, match="another recipe"):
        train_subject(other, corpus, tmp_path / "a")


def test_training_lowers_the_loss(corpus: Path, tmp_path: Path):
    longer = Recipe(**{**fields_of(TINY), "n_steps": 40})
    crops = torch.from_numpy(sampler_of(corpus).batch(0, 8, 17))
    trained = train_subject(longer, corpus, tmp_path / "a")
    assert next_token_loss(trained, crops) < next_token_loss(build_model(TINY), crops) - 1


def test_learning_rate_rises_holds_and_falls_to_zero():
    rates = [TINY.learning_rate(step) for step in range(TINY.n_steps + 1)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[-1] == 0.0
    assert rates[2:-1] == sorted(rates[2:-1], reverse=True)


def test_held_out_documents_are_never_in_the_training_streams(corpus: Path):
    split = split_documents(read_documents(corpus), 0.3, "key")
    tokenizer = train_tokenizer((d.text for d in split.train), 300)
    streams = build_streams(tokenizer, split.train)
    in_streams = {
        tokenizer.decode(document.tolist()[1:])
        for stream in streams.values()
        for document in np.split(stream.tokens, stream.starts[1:])
    }
    assert split.held_out
    assert in_streams == {d.text for d in split.train}
    assert in_streams.isdisjoint(d.text for d in split.held_out)


def test_exact_duplicates_are_dropped_and_counted(corpus: Path):
    split = split_documents(read_documents(corpus), 0.3, "key")
    texts = [d.text for d in (*split.train, *split.held_out)]
    assert len(texts) == len(set(texts)) == 60
    assert split.n_duplicates == 4


def test_hold_out_does_not_depend_on_the_order_of_the_documents(corpus: Path):
    documents = list(read_documents(corpus))
    forward = split_documents(documents, 0.3, "key").held_out
    backward = split_documents(documents[::-1], 0.3, "key").held_out
    assert {d.text for d in forward} == {d.text for d in backward}


def test_tokens_decode_to_the_text_even_when_it_spells_the_separator():
    text = "one <|endoftext|> two\n\n\tété 数"
    tokenizer = train_tokenizer([text], 300)
    (tokens,) = encode_documents(tokenizer, [Document(text, "books", "MIT")])
    assert tokens[0] == tokenizer.token_to_id("<|endoftext|>")
    assert tokens[0] not in tokens[1:]
    assert tokenizer.decode(tokens[1:].tolist()) == text


def test_crops_of_a_step_do_not_depend_on_the_steps_before(corpus: Path):
    sampler = sampler_of(corpus)
    earlier = [sampler.batch(step, 4, 17) for step in range(3)]
    again = sampler_of(corpus).batch(2, 4, 17)
    np.testing.assert_array_equal(earlier[2], again)
    assert not np.array_equal(earlier[1], earlier[2])


def test_export_reloads_through_transformers_with_the_same_logits(corpus: Path, tmp_path: Path):
    model = train_subject(TINY, corpus, tmp_path / "work").eval()
    tokenizer = Tokenizer.from_file(str(tmp_path / "work" / "tokenizer.json"))
    export_model(model, tokenizer, tmp_path / "out")
    reloaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", use_safetensors=True, dtype=torch.float32
    )
    reread = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "<|endoftext|>the old cat sees été"
    ids = reread(text, return_tensors="pt").input_ids  # (1, seq)
    assert ids[0].tolist() == tokenizer.encode(text).ids
    assert reread.decode(ids[0]) == text
    with torch.inference_mode():
        torch.testing.assert_close(reloaded(ids).logits, model(ids).logits, rtol=2e-2, atol=2e-2)


def test_exported_config_names_no_folder(corpus: Path, tmp_path: Path):
    model = train_subject(TINY, corpus, tmp_path / "work", stop_after=1)
    export_model(
        model, Tokenizer.from_file(str(tmp_path / "work" / "tokenizer.json")), tmp_path / "out"
    )
    for path in (tmp_path / "out").glob("*.json"):
        assert str(tmp_path) not in path.read_text()
    assert "_name_or_path" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_bigram_probabilities_add_up_to_one_after_seen_and_new_tokens():
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 8, size=50).astype(np.uint16) for _ in range(3)]
    bigram = Bigram(documents, Unigram(documents, vocab_size=10))
    for before in (0, 7, 9):  # 9 is never seen
        pairs = [np.array([before, after], dtype=np.uint16) for after in range(10)]
        total = sum(np.exp(-bigram.losses(pair)).item() for pair in pairs)
        assert total == pytest.approx(1.0)


def test_every_token_of_a_document_is_scored_once_whatever_its_length():
    model = build_model(TINY).eval()
    for n_tokens in (1, 15, 16, 17, 40):
        tokens = np.arange(n_tokens + 1, dtype=np.uint16)
        document = Document("x" * 7, "books", "MIT")
        measured = measure_by_source(transformer_losses(model), [document], [tokens])
        assert measured["books"] == measured["overall"]
        assert measured["overall"].n_tokens == n_tokens
        assert measured["overall"].size_bytes == 7


def fields_of(recipe: Recipe) -> dict[str, object]:
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


def sampler_of(corpus: Path) -> CropSampler:
    split = split_documents(read_documents(corpus), TINY.held_out_fraction, TINY.held_out_key)
    tokenizer = train_tokenizer((d.text for d in split.train), TINY.vocab_size)
    streams = build_streams(tokenizer, split.train)
    return CropSampler(streams, exponent=0.8, start_fraction=0.1, seed=0)
