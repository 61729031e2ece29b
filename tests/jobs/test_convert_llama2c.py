"""A converted llama2.c model gives sentencepiece's ids, and predicts as it was trained to."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.convert_llama2c import SPACE, Vocabulary, build_tokenizer, convert, read_vocabulary
from neuron_explainer.errors import RecordFormatError
from neuron_explainer.subject.model import Subject, load_subject

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["ab", " a", " ab", "bc", "abc", "aa", "aaa", " ", "a", "b", "c"]
ODD_TEXTS = ["", "é 数 😀", "two  spaces\n\nand a\ttab", "x" * 50, "It's “quoted”.", " a"]


def greedy_ids(vocabulary: Vocabulary, text: str) -> list[int]:
    """Sentencepiece's, the slow and obvious way: the leftmost best pair, again and again."""
    ids = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    found: list[int] = []
    for char in (" " + text if text else "").replace(" ", SPACE):
        found += [ids[char]] if char in ids else [3 + byte for byte in char.encode()]
    while True:
        joined = {
            place: ids[both]
            for place in range(len(found) - 1)
            if min(found[place : place + 2]) >= 259
            and (both := "".join(vocabulary.pieces[i] for i in found[place : place + 2])) in ids
        }
        if not joined:
            return found
        place = max(joined, key=lambda place: (vocabulary.scores[joined[place]], -place))
        found[place : place + 2] = [joined[place]]


def write_vocabulary(folder: Path, words: list[str]) -> Path:
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n", *BYTES, *words]
    scores = [0.0] * 259 + [-float(n) for n in range(len(words))]
    content = {"pieces": [piece.encode().hex() for piece in pieces], "scores": scores}
    path = folder / "tok99.json"
    path.write_text(json.dumps(content))
    return path


def test_ids_are_those_of_joining_the_best_pair_again_and_again(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(write_vocabulary(tmp_path, WORDS))
    tokenizer = build_tokenizer(vocabulary)
    rng = random.Random(0)
    texts = ["".join(rng.choices("aabbc é", k=rng.randint(0, 12))) for _ in range(300)]
    for text in texts:
        assert tokenizer.encode(text, add_special_tokens=False).ids == greedy_ids(vocabulary, text)
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pieces": [], "scores": []}, "ids 3 to 258 must be the bytes"),
        ({"pieces": ["zz"], "scores": [0]}, "pieces must be hex of UTF-8"),
        ({"scores": []}, "pieces must be hex of UTF-8"),
    ],
)
def test_another_kind_of_file_is_refused(
    tmp_path: Path, content: dict[str, list[object]], message: str
) -> None:
    (tmp_path / "tok1.json").write_text(json.dumps(content))
    with pytest.raises(RecordFormatError, match=message):
        read_vocabulary(tmp_path / "tok1.json")


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RecordFormatError, match=r"holds 0 files tok\*\.json; there must be one"):
        convert(tmp_path, tmp_path / "out")


@pytest.fixture(scope="module")
def stories260k(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("stories260K")
    convert(shared_data / "models" / "stories260K", folder)
    return load_subject(str(folder), device="cpu")


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> list[str]:
    with (shared_data / "corpus" / "stories.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(next(lines))["text"] for _ in range(20)]


@pytest.mark.shared_data
def test_stories_are_predicted_as_well_as_the_model_was_trained_to(
    stories260k: Subject, stories: list[str]
) -> None:
    nats: list[torch.Tensor] = []
    for ids in stories260k.tokenizer.encode(stories):
        framed = np.append(stories260k.tokenizer.separator_id, ids)[: stories260k.n_ctx]
        tokens = torch.from_numpy(framed.astype(np.int64))
        with torch.inference_mode():
            logits = stories260k.model(tokens[None]).logits[0]  # (seq, vocab)
        nats.append(torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="none"))
    assert 1.3 < torch.cat(nats).mean().item() < 1.7  # 4.75 a token is 1.56


@pytest.mark.shared_data
def test_stories_have_sentencepieces_ids_and_lose_nothing(
    stories260k: Subject, stories: list[str], shared_data: Path
) -> None:
    vocabulary = read_vocabulary(shared_data / "models" / "stories260K" / "tok512.json")
    tokenizer = stories260k.tokenizer
    for text in [*(story[:400] for story in stories), *ODD_TEXTS]:
        (ids,) = tokenizer.encode([text])
        assert ids.tolist() == greedy_ids(vocabulary, text)
    for text in stories:
        (ids,) = tokenizer.encode([text])
        assert "".join(tokenizer.display[i] for i in ids) == f" {text}"
