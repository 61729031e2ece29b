"""Hosts are asked without delay and without a secret; what does not answer is worth a note."""

from __future__ import annotations

import threading
from http.client import InvalidURL
from pathlib import Path
from urllib.error import URLError

import pytest

from neuron_explainer.pipeline.network import (
    Question,
    ask_hub,
    ask_index,
    configured_index,
    read_pip_configs,
)

SECRETS = ("user", "p4ss")


class FakeNet:
    """Answers every address with a status, or raises; remembers what it was asked."""

    def __init__(self, answer: int | Exception) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def __call__(self, url: str, timeout_s: float) -> int:
        assert timeout_s <= 3
        self.asked.append(url)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def test_hosts_that_answer_are_ok() -> None:
    net = FakeNet(200)
    hub, index = ask_hub({}, net)(), ask_index({}, [], net)()
    assert (hub.status, hub.found) == ("ok", "huggingface.co answers")
    assert (index.status, index.found) == ("ok", "pypi.org answers")
    assert all(url.startswith("https://") for url in net.asked)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "answers 404"),
        (503, "answers 503"),
        (TimeoutError("read"), "no answer within 3 s"),
        (URLError(TimeoutError()), "no answer within 3 s"),
        (URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (URLError(OSError("Tunnel connection failed: 403 no")), "the proxy refuses"),
        (InvalidURL("nonnumeric port: 'p4ss@host'"), "InvalidURL"),
        (ValueError("unknown url type: p4ss"), "ValueError"),
    ],
)
def test_a_host_that_is_of_no_use_is_a_note_with_the_reason(
    answer: int | Exception, reason: str
) -> None:
    for check in (ask_hub({}, FakeNet(answer))(), ask_index({}, [], FakeNet(answer))()):
        assert check.status == "note"
        assert check.found.endswith(f"cannot be used ({reason})")
        assert check.todo


def test_an_index_that_wants_a_password_answers() -> None:
    assert ask_index({}, [], FakeNet(401))().status == "ok"


def test_no_answer_within_the_time_is_none() -> None:
    never = threading.Event()
    question = Question("https://slow", lambda _url, _s: int(never.wait(60)), timeout_s=0.0)
    assert question.failure() == "no answer within 3 s"
    never.set()


@pytest.mark.parametrize("flag", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_asks_nobody(flag: str) -> None:
    net = FakeNet(200)
    check = ask_hub({flag: "true"}, net)()
    assert (check.status, check.found) == ("note", f"not asked: {flag} is set")
    assert ask_hub({flag: "0"}, net)().status == "ok"
    assert len(net.asked) == 1


@pytest.mark.parametrize("answer", [200, 500])
def test_neither_what_is_asked_nor_what_is_found_holds_a_secret(answer: int) -> None:
    net = FakeNet(answer)
    checks = [
        ask_hub({"HF_ENDPOINT": "https://user:p4ss@hub.example:8443/hf/"}, net)(),
        ask_index({"PIP_INDEX_URL": "https://user:p4ss@index.example/simple?t=p4ss"}, [], net)(),
        ask_index({}, ["[global]\nindex-url = https://user:p4ss@index.example/simple"], net)(),
    ]
    assert net.asked[0].startswith("https://hub.example:8443/hf/")
    assert net.asked[1:] == ["https://index.example/simple/torch/"] * 2
    texts = " ".join([*net.asked, *map(str, checks)])
    assert [secret for secret in SECRETS if secret in texts] == []


@pytest.mark.parametrize("address", ["hub.example", "https://", "http://[::1/", "::"])
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    net = FakeNet(200)
    check = ask_hub({"HF_ENDPOINT": address}, net)()
    assert (check.status, net.asked) == ("note", [])


def test_an_index_may_be_a_folder(tmp_path: Path) -> None:
    net = FakeNet(500)
    assert ask_index({"PIP_INDEX_URL": tmp_path.as_uri()}, [], net)().status == "ok"
    gone = ask_index({"PIP_INDEX_URL": (tmp_path / "gone").as_uri()}, [], net)()
    assert (gone.status, net.asked) == ("note", [])


@pytest.mark.parametrize(
    ("texts", "index"),
    [
        ([], None),
        (["[global]\ntimeout = 3\n"], None),
        (["[global]\nindex-url = https://a\n", "[global]\nindex-url = https://b\n"], "https://a"),
        (["[global]\nindex-url = https://a\n[install]\nindex-url = https://b"], "https://b"),
        (["odd\n", "[global]\nindex-url = https://b/%40\n"], "https://b/%40"),
    ],
)
def test_the_strongest_configuration_names_the_index(texts: list[str], index: str | None) -> None:
    assert configured_index(texts) == index


def test_pip_configurations_are_read_from_where_pip_does(tmp_path: Path) -> None:
    named, user = tmp_path / "named.conf", tmp_path / ".config/pip/pip.conf"
    named.write_text("[global]\nindex-url = https://named\n")
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://user\n")
    home = {"HOME": str(tmp_path)}
    assert user.read_text() in read_pip_configs(home)
    assert read_pip_configs({**home, "PIP_CONFIG_FILE": str(named)})[0] == named.read_text()
    assert read_pip_configs({**home, "PIP_CONFIG_FILE": "/dev/null"}) == []
