"""Make a llama2.c model loadable: its pieces and scores become a Hugging Face tokenizer.

    python -m jobs.convert_llama2c SOURCE_FOLDER TARGET_FOLDER

The source holds config.json and model.safetensors of a Llama model, and tok*.json: the pieces (as
hex of their bytes) and scores of a sentencepiece BPE model. Sentencepiece joins the two neighbours
whose joint piece has the best score (Sennrich et al. 2016, arXiv:1508.07909), so the merges are
all ways to split a piece in two, in the order of the pieces' scores.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from tokenizers import Tokenizer, decoders, models, normalizers

from neuron_explainer.cli_options import run_program
from neuron_explainer.errors import RecordFormatError
from neuron_explainer.stores.atomic import replacing, write_text

SPACE = "▁"
UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
N_BYTES = 256
FIRST_BYTE = 3


class Vocabulary(NamedTuple):
    """A sentencepiece model; the ids are the positions."""

    pieces: list[str]
    scores: list[float]


def convert(
    source: Annotated[Path, typer.Argument(help="Folder with the checkpoint and tok*.json.")],
    target: Annotated[Path, typer.Argument(help="Folder to write, for --model.")],
) -> None:
    """Write a folder that `--model` reads."""
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text("utf-8"))
    tokenizer = build_tokenizer(read_vocabulary(find_vocabulary(source)))
    write_text(target / "config.json", json.dumps(config, indent=2) + "\n")
    with replacing(target / "tokenizer.json") as beside:
        tokenizer.save(str(beside))
    settings = {
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "model_max_length": config["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast",  # which reads tokenizer.json as it is
    }
    write_text(target / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    with replacing(target / "model.safetensors") as beside:
        shutil.copyfile(source / "model.safetensors", beside)


def find_vocabulary(folder: Path) -> Path:
    """The one tok*.json of the folder; RecordFormatError when there is none, or several."""
    found = sorted(path for path in folder.glob("tok*.json") if path.stem[3:].isdecimal())
    if len(found) != 1:
        raise RecordFormatError(folder, f"holds {len(found)} files tok*.json; there must be one")
    return found[0]


def read_vocabulary(path: Path) -> Vocabulary:
    """Pieces as sentencepiece writes them, with the mark for a space."""
    content = json.loads(path.read_text("utf-8"))
    try:
        raw = [bytes.fromhex(piece) for piece in content["pieces"]]
        scores = [float(score) for score in content["scores"]]
        pieces = [piece.decode("utf-8").replace(" ", SPACE) for piece in raw]
    except (KeyError, ValueError, TypeError) as error:
        raise RecordFormatError(
            path, f"pieces must be hex of UTF-8, scores numbers ({error})"
        ) from error
    pieces[:FIRST_BYTE] = [UNKNOWN, BEGIN, END]
    expected = [f"<0x{byte:02X}>" for byte in range(N_BYTES)]
    if len(pieces) != len(scores) or pieces[FIRST_BYTE : FIRST_BYTE + N_BYTES] != expected:
        raise RecordFormatError(path, "ids 3 to 258 must be the bytes, and each piece have a score")
    return Vocabulary(pieces, scores)


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """A BPE with byte fallback that gives sentencepiece's ids."""
    ids = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    merges = list(find_merges(vocabulary))
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=UNKNOWN, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([UNKNOWN, BEGIN, END])
    return tokenizer


def find_merges(vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    """(left, right) of every piece that two others make, best score first."""
    first = FIRST_BYTE + N_BYTES
    words = dict(zip(vocabulary.pieces[first:], vocabulary.scores[first:], strict=True))
    for word in sorted(words, key=words.__getitem__, reverse=True):
        for cut in range(1, len(word)):
            if word[:cut] in words and word[cut:] in words:
                yield word[:cut], word[cut:]


if __name__ == "__main__":
    run_program(lambda: typer.run(convert))
