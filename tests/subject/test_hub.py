"""Without the hub, what is on this machine is read at once, and nothing is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject.hub import is_here_alone
from neuron_explainer.subject.model import load_subject
from neuron_explainer.subject.pretrained import load_tokenizer, read_config
from tests.tiny_models import save_tiny_model

Answer = Callable[[httpx2.Request], httpx2.Response]
MakeHub = Callable[[str, Answer], list[str]]


@pytest.fixture
def make_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeHub]:
    """(name of the hub, what it answers) -> the addresses it is asked for, as they come."""

    def make(name: str, answer: Answer) -> list[str]:
        asked: list[str] = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            asked.append(str(request.url))
            return answer(request)

        set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(handle)))
        monkeypatch.setattr(constants, "ENDPOINT", f"https://{name}")
        return asked

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield make
    set_client_factory(default_client_factory)


def refuse(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("Name or service not known")


def test_a_hub_that_is_not_there_is_asked_once_and_no_more(make_hub: MakeHub) -> None:
    asked = make_hub("gone.example", refuse)
    for read in (read_config, load_tokenizer):
        with pytest.raises(SubjectError, match="cannot load model 'owner/name': We couldn't"):
            read("owner/name")
    assert asked.count("https://gone.example") == 1
    assert not [address for address in asked if "owner/name" in address]


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_is_one(make_hub: MakeHub, status: int) -> None:
    make_hub(f"answers-{status}.example", lambda _: httpx2.Response(status))
    assert not is_here_alone("owner/name")


def test_for_a_folder_no_hub_is_asked(make_hub: MakeHub, tmp_path: Path) -> None:
    asked = make_hub("unasked.example", refuse)
    folder = save_tiny_model(tmp_path / "model")
    assert read_config(str(folder)).model_type == "gpt2"
    assert is_here_alone(str(folder))
    assert asked == []


@pytest.mark.parametrize("name", ["owner/name", "./gone/away/from here"])
def test_what_has_to_be_here_is_not_asked_for(make_hub: MakeHub, name: str) -> None:
    asked = make_hub("not-asked.example", lambda _: httpx2.Response(200))
    with pytest.raises(SubjectError, match=f"is not on this machine.*hf download {name}"):
        load_subject(name, only_here=True)
    assert asked == []
