"""A subject is loaded whole, from safetensors alone, or refused in one clear line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.subject.model import BUNDLED_FOLDER, Subject, load_subject, make_subject
from neuron_explainer.subject.source import SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.tiny_models import byte_tokenizer, save_tiny_model, tiny_gpt2, tiny_subject

WEIGHT = "transformer.h.1.mlp.c_fc.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


def load(folder: Path, dtype: str = "auto", device: str = "cpu") -> Subject:
    return load_subject(str(folder), dtype=dtype, device=device)


def refusal(folder: Path) -> str:
    with pytest.raises(SubjectError) as raised:
        load(folder)
    message = str(raised.value)
    assert "\n" not in message
    return message


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    """None: the weight is left out."""
    path = folder / "model.safetensors"
    weights = {**load_file(path), **changes}
    save_file({k: v for k, v in weights.items() if v is not None}, path, {"format": "pt"})


def test_a_saved_model_is_the_one_that_was_saved(folder: Path) -> None:
    loaded, built = load(folder), tiny_subject()
    assert loaded.content_hash() == built.content_hash()
    assert (loaded.n_layers, loaded.d_mlp, loaded.n_ctx) == (2, 64, 64)
    assert loaded.dtype == "float32"
    assert loaded.tokenizer.display == built.tokenizer.display
    assert not loaded.model.training


@pytest.mark.skipif(not BUNDLED_FOLDER.is_dir(), reason=f"no model in {BUNDLED_FOLDER}")
def test_the_bundled_model_can_be_read() -> None:
    subject = load_subject(device="cpu")
    shapes = {}
    source = SubjectSource(subject)
    ids = subject.tokenizer.encode(["The documentation of a function"])[0].tolist()
    assert max(ids) < subject.model.config.vocab_size
    assert subject.tokenizer.n_tokens <= subject.model.config.vocab_size
    source.read(
        torch.tensor([ids]),
        source.layers,
        lambda layer, acts, _: shapes.update({layer: acts.shape}),
    )
    assert shapes == dict.fromkeys(range(subject.n_layers), (1, len(ids), subject.d_mlp))


def test_the_hash_of_the_weights_tells_any_change() -> None:
    subject = tiny_subject()
    assert subject.content_hash() == tiny_subject().content_hash()
    hashes = {subject.content_hash(), tiny_subject(seed=1).content_hash()}
    with torch.no_grad():
        subject.model.transformer.h[1].mlp.c_fc.weight[3, 5] += 1e-3
    assert len(hashes | {subject.content_hash()}) == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_asked_for_is_the_one_of_the_activations(folder: Path, dtype: str) -> None:
    subject = load(folder, dtype)
    seen: list[torch.Tensor] = []
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    SubjectSource(subject).read(tokens, [0], lambda _layer, acts, _: seen.append(acts))
    assert subject.dtype == dtype
    assert {str(acts.dtype) for acts in seen} == {f"torch.{dtype}"}


def test_a_weight_that_is_missing_is_named_and_never_made_up(folder: Path) -> None:
    change_weights(folder, {WEIGHT: None})
    assert refusal(folder).endswith(f"no weights for {WEIGHT}")
    change_weights(folder, {"transformer.wpe.weight": None})
    assert refusal(folder).endswith(f"no weights for {WEIGHT} and 1 more")


def test_a_weight_of_the_wrong_shape_is_named_with_both_shapes(folder: Path) -> None:
    change_weights(folder, {WEIGHT: torch.zeros(16, 10)})
    assert refusal(folder).endswith(f"{WEIGHT} has shape (16, 10), its configuration says (16, 64)")


def test_a_configuration_of_more_layers_than_weights_is_refused(folder: Path) -> None:
    change_config(folder, n_layer=3)
    assert "no weights for transformer.h.2." in refusal(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    torch.save(tiny_gpt2().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "no file named model.safetensors" in refusal(folder)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_cut_weights_are_refused(folder: Path, kept: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert f"cannot load model {str(folder)!r}" in refusal(folder)


def test_another_architecture_is_refused_with_those_that_are_known(folder: Path) -> None:
    change_config(folder, model_type="bloom")
    assert "models of type 'bloom' are not known (known: gemma, " in refusal(folder)
    assert "--site-module" in refusal(folder)
    change_config(folder, model_type="nosuch")
    assert "nosuch" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_missing_or_damaged_file_is_refused(folder: Path, name: str, text: str | None) -> None:
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    assert f"cannot load model {str(folder)!r}" in refusal(folder)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder"])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SubjectError, match=f"no model folder at {name}"):
        load_subject(name)


@pytest.mark.parametrize("dtype", ["float64", "int8", ""])
def test_an_unknown_dtype_is_refused_with_the_known_ones(folder: Path, dtype: str) -> None:
    with pytest.raises(UsageError, match="one of auto, float32, bfloat16, float16"):
        load(folder, dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "", "meta", "cuda:99"])
def test_a_device_that_is_unknown_or_not_here_is_refused(folder: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"cannot use device '{device}'"):
        load(folder, device=device)


def test_loading_prints_nothing_and_leaves_the_loaders_logging_as_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("transformers")
    logger.setLevel(logging.WARNING)
    change_weights(folder, {WEIGHT: None})
    capfd.readouterr()
    refusal(folder)
    assert capfd.readouterr() == ("", "")
    assert logger.level == logging.WARNING


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused() -> None:
    model = tiny_gpt2()
    model.config.vocab_size = 100
    with pytest.raises(SubjectError, match="the tokenizer has 257 tokens, the model knows 100"):
        make_subject("small", model, SubjectTokenizer(byte_tokenizer()))


def test_the_content_hash_tells_another_configuration_and_another_tokenizer(folder: Path) -> None:
    before = load(folder).content_hash()
    change_config(folder, activation_function="quick_gelu")
    other_activation = load(folder).content_hash()
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))
    assert len({before, other_activation, load(folder).content_hash()}) == 3


def test_a_model_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refusal(folder)


def test_another_activation_function_changes_the_neurons_and_the_content(folder: Path) -> None:
    plain = load(folder)
    quick = load_subject(str(folder), device="cpu", activation_function="quick_gelu")
    assert quick.content_hash() != plain.content_hash()
    minimum = torch.linspace(-4, 0, 4001)
    values = quick.model.transformer.h[0].mlp.act(minimum)
    assert values.min().item() == pytest.approx(-0.16361, abs=1e-5)  # of x·sigmoid(1.702x)
    with pytest.raises(UsageError, match="unknown --activation-function 'nosuch'"):
        load_subject(str(folder), device="cpu", activation_function="nosuch")


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    n_bytes = sum(4 * p.numel() for p in load_subject(str(folder)).model.parameters())
    load_subject(str(folder), device="cpu", most_bytes=n_bytes)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SubjectError, match=r"takes 0\.0 GB in float32 and 0\.0 GB are there; try"):
        load_subject(str(folder), device="cpu", most_bytes=n_bytes - 1)


def test_weights_that_the_configuration_has_no_use_for_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": 1}))
    assert load_subject(str(folder), device="cpu").n_layers == 1
    assert "weights are not used, such as transformer.h.1." in caplog.text


def test_the_gelu_of_gpt2_is_the_same_function_in_one_kernel(folder: Path) -> None:
    x = torch.linspace(-8, 8, 4001)
    plain = tiny_subject().model.transformer.h[0].mlp.act
    loaded = load(folder).model.transformer.h[0].mlp.act
    assert type(loaded) is not type(plain)
    torch.testing.assert_close(loaded(x), plain(x), rtol=1e-5, atol=1e-6)
