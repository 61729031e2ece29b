"""Language models that cannot be asked, as a user meets it: one line, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.stores.results import BASELINE, Results
from tests.e2e.command_lines import RUN, Call, assert_nothing_half_written, assert_one_line, cut_off
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.tiny_models import save_tiny_model
from tests.tiny_stores import files_digest

EXPLAIN = ["explain", "--n-resamples", "0", "--neurons", "4", "--device", "cpu"]
FAST = ["--requests-a-minute", "1000000"]
ASK = ["--explainer", "openai:rule-1", "--simulator", "auto"]
SOON_S = 10.0
"""Far less than the waits of the retries add up to."""


@pytest.fixture(scope="module")
def server() -> Iterator[RuleServer]:
    with rule_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def run(user: Path, finished_run: Path) -> Path:
    """A finished run of the token lookup table, which may be written to."""
    return shutil.copytree(finished_run, user / "run")


def n_results(run: Path) -> dict[str, int]:
    """Explanations by method; what the token lookup table made is among them."""
    connection = sqlite3.connect(run / "results.sqlite")
    rows = connection.execute("SELECT fingerprint, count(*) FROM explanations GROUP BY 1")
    counts = dict(rows.fetchall())
    connection.close()
    return counts


def assert_refused(call: Call, run: Path, flags: list[str], code: int, says: str) -> None:
    """In one line, before anything is written: the run is as it was."""
    before = files_digest(run)
    assert_one_line(call(*EXPLAIN, "--run", "run", *flags), code, says)
    assert files_digest(run) == before


# Names and choices


CHOICES: dict[str, tuple[str, int, str]] = {
    "no provider": ("--explainer gpt-4o --simulator auto", 2, "write patterns, token_lookup, op"),
    "no model": ("--explainer openai: --simulator auto", 2, "--explainer 'openai:' is not known"),
    "lookup of a text": (
        "--explainer openai:x --simulator token_lookup", 2, "give --simulator openai:MODEL",
    ),
    "another's rule": (
        "--explainer patterns --simulator token_lookup", 2, "--simulator token_lookup predicts from"
    ),
    "prompt": ("--explainer-prompt zorp", 2, "--explainer-prompt 'zorp' is not known; one of "),
    "simulation": ("--simulation zorp", 2, "--simulation 'zorp' is not known; one of all_at_once"),
    "distilled server": ("--simulation distilled", 2, "use --simulator hf:MODEL"),
    "no URL": ("--base-url localhost:11434", 2, "--base-url 'localhost:11434' is no address"),
    "an empty URL": ("--base-url=", 2, "--base-url '' is no address"),
    "no port": ("--simulator-base-url http://a:b/v1", 2, "--simulator-base-url 'http://a:b/v1'"),
    "no price": ("--budget-usd 1 --base-url http://a.b/v1", 2, "no price is known for rule-1"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "code", "says"), CHOICES.values(), ids=CHOICES)
def test_a_choice_that_cannot_be_meant_is_one_line(
    run: Path, call: Call, flags: str, code: int, says: str
) -> None:
    named = [] if "--explainer " in flags or "--simulator " in flags else ASK
    assert_refused(call, run, [*named, *flags.split()], code, says)
    assert_one_line(call(*RUN, "--run", "new", *named, *flags.split()), code, says)
    assert_nothing_half_written(run.parent / "new")


def test_a_calibration_that_is_none_is_refused_by_name(run: Path, call: Call) -> None:
    before = files_digest(run)
    answer = call(*EXPLAIN, "--run", "run", *ASK, "--calibration", "zorp")
    assert answer.code == 2
    assert "--calibration" in answer.error
    assert "linear" in answer.error
    assert files_digest(run) == before


# Keys and servers


@pytest.mark.parametrize("command", [EXPLAIN, RUN])
def test_a_key_that_is_missing_or_none_is_told_before_anything_is_done(
    user: Path, call: Call, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    missing = call(*command, "--run", "new", *ASK)
    assert_one_line(missing, 2, "OPENAI_API_KEY is not set: put the key for api.openai.com")
    secret = "sk-first\nsecond"
    monkeypatch.setenv("MY_KEY", secret)
    broken = call(*command, "--run", "new", *ASK, "--api-key-env", "MY_KEY")
    assert_one_line(broken, 2, "what is in MY_KEY is no key")
    assert "sk-first" not in broken.error
    assert_nothing_half_written(user / "new")


def test_a_server_that_is_not_there_is_told_at_once(run: Path, call: Call) -> None:
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        started = time.monotonic()
        answer = call(*EXPLAIN, "--run", "run", *ASK, "--base-url", url)
        assert time.monotonic() - started < SOON_S
    assert_one_line(answer, 1, "no connection to http://127.0.0.1:")
    assert sum(n_results(run).values()) > 0


@pytest.mark.usefixtures("run")
def test_a_server_that_has_gone_since_is_told_at_once(call: Call) -> None:
    with rule_server() as server:
        flags = ["--run", "run", *ASK, *FAST, "--base-url", server.base_url]
        assert call(*EXPLAIN, *flags).code == 0
    started = time.monotonic()
    assert_one_line(
        call(*EXPLAIN, *flags, "--neurons", "6"), 1, "no connection to http://127.0.0.1:"
    )
    assert time.monotonic() - started < SOON_S


@pytest.mark.usefixtures("run")
def test_an_address_where_no_model_answers_is_one_line(call: Call, server: RuleServer) -> None:
    url = server.base_url.removesuffix("/v1") + "/elsewhere"
    answer = call(*EXPLAIN, "--run", "run", *ASK, "--base-url", url)
    assert_one_line(answer, 2, "the server said 404: Not Found; `neuron-explainer doctor")


@pytest.mark.usefixtures("run")
def test_a_model_that_the_server_does_not_have_is_one_line(call: Call, server: RuleServer) -> None:
    flags = ["--explainer", "openai:m", "--simulator", "auto", "--base-url", server.base_url]
    answer = call(*EXPLAIN, "--run", "run", *flags)
    # Not openai and a circled letter, as a console makes of `:m:`.
    assert_one_line(answer, 2, "openai:m: the server said 404: The model `m` does not exist.")


@pytest.mark.usefixtures("run")
def test_a_wrong_key_is_one_line_without_the_key(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    with rule_server(ServerOptions(api_key="sk-right-0123456789")) as server:
        answer = call(*EXPLAIN, "--run", "run", *ASK, "--base-url", server.base_url)
    assert_one_line(answer, 1, "the server said 401; is the key right")
    assert "sk-" not in answer.error


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("options", "simulation"),
    [
        (ServerOptions(echo="refused"), "all_at_once"),
        (ServerOptions(is_reasoning=True), "streaming"),
        (ServerOptions(n_top_logprobs=0), "one_at_a_time"),
    ],
)
def test_a_simulation_that_the_server_does_not_offer_is_one_line(
    call: Call, options: ServerOptions, simulation: str
) -> None:
    with rule_server(options) as server:
        flags = [*ASK, "--base-url", server.base_url, "--simulation", simulation]
        answer = call(*EXPLAIN, "--run", "run", *flags)
    says = f"--simulation {simulation}: openai:rule-1 does not offer it; it does "
    assert_one_line(answer, 2, says)


def test_a_reasoning_model_is_known_by_its_name_before_anybody_is_asked(
    user: Path, call: Call
) -> None:
    flags = ["--explainer", "openai:o3-mini", "--simulator", "auto", "--simulation", "streaming"]
    answer = call("explain", "--dry-run", "--neurons", "3", "--run", "new", *flags)
    assert_one_line(answer, 2, "openai:o3-mini does not offer it; it does structured")
    assert not (user / "new").exists()


# Models on this machine


@pytest.fixture(scope="module")
def asked_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With room for some examples and a window."""
    return save_tiny_model(tmp_path_factory.mktemp("asked") / "lm", 1, 8, n_ctx=4096)


LOCAL: dict[str, tuple[str, int, str]] = {
    "absent": ("hf:./absent", 1, "no model folder at ./absent"),
    "no tokenizer": ("hf:./no-tokenizer", 2, "./no-tokenizer: the tokenizer knows no words; is"),
    "cut off": ("hf:./cut-off", 1, "cannot load model './cut-off'"),
}


@pytest.fixture
def broken_models(user: Path, asked_model: Path) -> None:
    for name in ("no-tokenizer", "no-weights", "cut-off", "vit"):
        shutil.copytree(asked_model, user / name)
    for path in (user / "no-tokenizer").glob("*token*"):
        path.unlink()
    (user / "no-weights/model.safetensors").unlink()
    cut_off(user / "cut-off/config.json")
    (user / "vit/config.json").write_text(json.dumps({"model_type": "vit"}))


@pytest.mark.usefixtures("broken_models")
@pytest.mark.parametrize(("model", "code", "says"), LOCAL.values(), ids=LOCAL)
def test_a_local_model_that_is_none_is_told_before_anything_is_done(
    run: Path, call: Call, model: str, code: int, says: str
) -> None:
    flags = ["--explainer", model, "--simulator", "auto"]
    assert_refused(call, run, flags, code, says)
    assert_one_line(call(*RUN, "--run", "new", *flags), code, says)
    assert_nothing_half_written(run.parent / "new")


@pytest.mark.usefixtures("broken_models")
@pytest.mark.parametrize(
    ("model", "says"), [("no-weights", "model.safetensors"), ("vit", "cannot load model './vit'")]
)
def test_a_local_model_that_cannot_be_loaded_leaves_the_method_that_was(
    run: Path, call: Call, model: str, says: str
) -> None:
    before = current_method(run)
    flags = ["--run", "run", "--explainer", f"hf:./{model}", "--simulator", "auto"]
    assert_one_line(call(*EXPLAIN, *flags), 1, says)
    assert current_method(run) == before


def current_method(run: Path) -> str:
    with Results(run / "results.sqlite", read_only=True) as results:
        return results.current_method()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("simulation", ["auto", "streaming", "structured"])
@pytest.mark.parametrize("command", [EXPLAIN, [*EXPLAIN, "--dry-run"]])
def test_a_context_too_small_for_one_example_is_one_line(
    call: Call, simulation: str, command: list[str]
) -> None:
    flags = ["--explainer", "hf:./model", "--simulator", "auto", "--simulation", simulation]
    assert_one_line(call(*command, "--run", "run", *flags), 2, "context of 64")


def test_a_tokenizer_that_is_not_there_is_told_before_anything_is_done(
    run: Path, call: Call, server: RuleServer
) -> None:
    flags = [*ASK, "--base-url", server.base_url, "--simulator-tokenizer", "./absent"]
    assert_refused(call, run, flags, 1, "no model folder at ./absent")


# Files

PRICES: dict[str, tuple[str | None, str]] = {
    "missing": (None, "prices.json: No such file or directory"),
    "no JSON": ("{", "prices.json: JSONDecodeError"),
    "another object": ('{"rule-1": {"input": "1"}}', "prices have the form"),
    "no model": ('{"models": []}', "prices have the form"),
    "an unknown kind": ('{"models": {"rule-1": {"input": "1", "thoughts": "2"}}}', "'thoughts'"),
    "no output": ('{"models": {"rule-1": {"input": "1"}}}', "output"),
    "negative": ('{"models": {"rule-1": {"input": "-1", "output": "4"}}}', "input must be dollars"),
    "no number": ('{"models": {"rule-1": {"input": "cheap", "output": "4"}}}', "have the form"),
}


@pytest.mark.parametrize(("text", "says"), PRICES.values(), ids=PRICES)
def test_prices_that_are_none_are_told_before_anything_is_done(
    run: Path, call: Call, text: str | None, says: str
) -> None:
    if text is not None:
        (run.parent / "prices.json").write_text(text)
    flags = [*ASK, "--base-url", "http://localhost:1/v1", "--prices", "prices.json"]
    assert_refused(call, run, flags, 1, says)
    dry = call("explain", "--dry-run", "--run", "run", *flags)
    assert_one_line(dry, 1, says)


@pytest.mark.parametrize("name", ["responses.sqlite", "spending.sqlite"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_a_damaged_file_of_answers_or_costs_is_named(
    run: Path, call: Call, server: RuleServer, name: str, damage: str
) -> None:
    flags = ["--run", "run", *ASK, *FAST, "--base-url", server.base_url]
    assert call(*EXPLAIN, *flags).code == 0
    path = run / name
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if damage == "cut off":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.write_bytes(b"zorp" * 999)
    before = n_results(run)
    answer = call(*EXPLAIN, *flags, "--n-per-split", "4")
    assert_one_line(answer, 1, name)
    assert before.items() <= n_results(run).items()


def test_a_cache_where_nothing_may_be_written_is_one_line(
    run: Path, call: Call, server: RuleServer
) -> None:
    (run.parent / "file").touch()
    flags = [*ASK, "--base-url", server.base_url, "--cache", "file/answers.sqlite"]
    assert_one_line(call(*EXPLAIN, "--run", "run", *flags), 1, "file/answers.sqlite: ")
    (run.parent / "folder").mkdir()
    flags[-1] = "folder"
    assert_one_line(call(*EXPLAIN, "--run", "run", *flags), 1, "folder: unable to open")


# After the collection


def test_an_error_after_the_collection_leaves_it_usable_and_the_same_command_goes_on(
    user: Path, call: Call, asked_model: Path
) -> None:
    shutil.copytree(asked_model, user / "lm")
    weights = user / "lm/model.safetensors"
    kept = weights.rename(user / "kept")
    command = [*RUN, "--run", "new", "--neurons", "3", "--explainer", "hf:./lm"]
    command += ["--simulator", "auto", "--explainer-prompt", "summary"]
    assert_one_line(call(*command), 1, "model.safetensors")
    store = files_digest(user / "new/store")
    assert call("show", "0:3", "--run", "new").code == 0
    kept.rename(weights)
    assert call(*command).code == 0
    assert files_digest(user / "new/store") == store
    folder = RunFolder(user / "new")
    with Results(folder.results, read_only=True) as results:
        method = results.current_method()
        assert len(list(results.units(method))) == 3
        assert len(list(results.units(results.choices(method)[BASELINE]))) == 3
