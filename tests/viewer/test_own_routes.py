"""Nothing is spent that was not shown and agreed to, and what was scored is there to be read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.errors import BudgetExceeded, ServerFailed
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score
from neuron_explainer.viewer.hooks import Hooks, OwnScore, no_hooks
from neuron_explainer.viewer.own_explanations import FILE, read_own
from tests.viewer.served_app import ORIGIN, open_client
from tests.viewer.served_fakes import HOSTILE, Asked
from tests.viewer.test_try_routes import Page

UNIT = NeuronId(1, 4)
OWN = "/layers/1/neurons/4/own"
WORDS = "words about time"


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def client(tmp_path: Path, asked: Asked) -> TestClient:
    return open_client(tmp_path, {"a": asked.hooks(), "b": no_hooks("no model <here>")})


def body(asked: Asked, **more: str) -> dict[str, str]:
    return {"text": WORDS, "author": "Ada", "agreed": asked.cost.asked} | more


def test_a_score_is_kept_with_who_and_when(
    client: TestClient, asked: Asked, tmp_path: Path
) -> None:
    cost = client.post(f"{OWN}/cost", json={"text": WORDS}).json()
    assert cost["asked"] == asked.cost.asked and cost["fits"] is True
    assert asked.scored == []
    answer = client.post(OWN, json=body(asked, agreed=cost["asked"]))
    assert answer.status_code == 200
    assert asked.scored == [(UNIT, WORDS)]
    (own,) = client.get(f"{OWN}.json").json()
    assert own == answer.json()
    assert (own["text"], own["author"], own["unit"]) == (WORDS, "Ada", "1:4")
    assert own["scores"]["top_and_random"]["value"] == 0.25
    (kept,) = read_own(tmp_path / "a" / FILE, UNIT)
    assert kept.scored.windows[0].simulation.expected_activations[0] is None
    assert read_own(tmp_path / "a" / FILE, NeuronId(1, 5)) == ()
    assert "Ada" in client.get(OWN).text


def test_the_scored_windows_are_there_to_be_looked_at(client: TestClient, asked: Asked) -> None:
    for text in ("one", "two"):
        client.post(OWN, json=body(asked, text=text))
    page = Page(client.get(OWN).text)
    sources = [str(a["data-src"]) for a in page.all("details")]
    assert len(set(sources)) == 2
    for source in sources:
        found = client.get(source)
        assert found.status_code == 200
        assert [a["data-name"] for _, a in Page(found.text).tags if "data-name" in a] == [
            "real", "simulated",
        ]  # fmt: skip
    assert client.get(f"{OWN}/windows?number=99").status_code == 404
    assert client.get(sources[0].replace("/4/", "/5/")).status_code == 404


def test_nothing_is_scored_unless_its_cost_was_agreed_to(client: TestClient, asked: Asked) -> None:
    for agreed in ("", "at most nothing"):
        answer = client.post(OWN, json=body(asked, agreed=agreed))
        assert answer.status_code == 409
        assert answer.json()["cost"]["asked"] == asked.cost.asked
    before = asked.cost.asked
    asked.cost = replace(asked.cost, asked="dearer now")
    assert client.post(OWN, json=body(asked, agreed=before)).status_code == 409
    assert asked.scored == []


def test_a_cost_beyond_the_budget_does_not_fit(client: TestClient, asked: Asked) -> None:
    asked.cost = replace(asked.cost, left_usd=0.001)
    assert client.post(f"{OWN}/cost", json={"text": WORDS}).json()["fits"] is False
    asked.cost = replace(asked.cost, cost_usd=None)  # a price that is not known
    assert client.post(f"{OWN}/cost", json={"text": WORDS}).json()["fits"] is False
    asked.cost = replace(asked.cost, left_usd=None)
    assert client.post(f"{OWN}/cost", json={"text": WORDS}).json()["fits"] is True


def failing(asked: Asked, error: Exception) -> Hooks:
    def fail(_neuron_id: NeuronId, _text: str) -> OwnScore:
        raise error

    return replace(asked.hooks(), score_own=fail)


@pytest.mark.parametrize(
    ("error", "status"), [(BudgetExceeded(1.0, 1.0), 402), (ServerFailed("it broke"), 503)]
)
def test_what_failed_is_told_and_not_kept(
    tmp_path: Path, asked: Asked, error: Exception, status: int
) -> None:
    client = open_client(tmp_path, {"a": failing(asked, error)})
    answer = client.post(OWN, json=body(asked))
    assert (answer.status_code, answer.json()["error"]) == (status, str(error))
    assert client.get(f"{OWN}.json").json() == []


def test_an_explanation_without_a_score_is_kept_with_the_reason(
    client: TestClient, asked: Asked
) -> None:
    asked.score = Score("ev_correlation_score", None, 0, reason="constant prediction")
    client.post(OWN, json=body(asked))
    (own,) = client.get(f"{OWN}.json").json()
    assert own["scores"]["top_and_random"]["value"] is None
    assert "constant prediction" in Page(client.get(OWN).text).text


def test_two_at_once_of_one_unit_are_one(tmp_path: Path, asked: Asked) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(neuron_id: NeuronId, text: str) -> OwnScore:
        begun.set()
        assert go_on.wait(10)
        return asked.score_own(neuron_id, text)

    client = open_client(tmp_path, {"a": replace(asked.hooks(), score_own=wait)})
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, OWN, json=body(asked))
        assert begun.wait(10)
        second = client.post(OWN, json=body(asked))
        go_on.set()
        assert first.result().status_code == 200
    assert second.status_code == 409 and "is being scored" in second.json()["detail"]
    assert len(asked.scored) == 1
    assert client.post(OWN, json=body(asked)).status_code == 200  # it is free again


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ],
)
def test_a_page_of_another_site_scores_nothing(
    client: TestClient, asked: Asked, headers: dict[str, str]
) -> None:
    for address in (OWN, f"{OWN}/cost"):
        answer = client.post(address, json=body(asked), headers=headers)
        assert answer.status_code in (403, 421)
    own = client.post(OWN, json=body(asked), headers={"Origin": ORIGIN})
    assert own.status_code == 200
    assert len(asked.scored) == 1


def test_a_form_of_another_kind_is_not_taken(client: TestClient, asked: Asked) -> None:
    """What a browser may send elsewhere without asking: no JSON."""
    plain = client.post(OWN, content=b'{"text": "x"}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 422
    assert asked.scored == []


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.strip()])
def test_what_is_written_shows_as_text(client: TestClient, asked: Asked, text: str) -> None:
    assert client.post(OWN, json=body(asked, text=text, author=text)).status_code == 200
    page = Page(client.get(OWN).text)
    assert {tag for tag, _ in page.tags} <= {
        "article", "b", "bdi", "dd", "details", "div", "dl", "dt", "h3", "i", "p", "small", "span",
        "summary", "time",
    }  # fmt: skip
    (own,) = client.get(f"{OWN}.json").json()
    assert own["text"] == text.strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is empty"), (" \n", "is empty"), ("x" * 2001, "2,001"), ("\ud800", "half a character")],
)
def test_words_that_cannot_be_meant_are_refused(
    client: TestClient, asked: Asked, text: str, said: str
) -> None:
    raw = b'{"text": "\\ud800"}' if text == "\ud800" else None
    kind = {"Content-Type": "application/json"}
    answer = (
        client.post(f"{OWN}/cost", content=raw, headers=kind)
        if raw
        else client.post(f"{OWN}/cost", json=body(asked, text=text))
    )
    assert answer.status_code == 422
    assert said in answer.text


def test_a_source_that_cannot_score_says_why(client: TestClient, asked: Asked) -> None:
    answer = client.post(f"/s/b{OWN}", json=body(asked))
    assert (answer.status_code, answer.json()["error"]) == (422, "no model <here>")


@pytest.mark.parametrize("unit", ["1/neurons/99", "9/neurons/0", "-1/neurons/0", "0/neurons/-1"])
def test_a_unit_that_is_not_there_is_not_found(client: TestClient, asked: Asked, unit: str) -> None:
    assert client.post(f"/layers/{unit}/own", json=body(asked)).status_code == 404
    assert client.get(f"/layers/{unit}/own").status_code == 404


def test_a_file_that_is_damaged_is_told(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / FILE).write_bytes(b"no database" * 100)
    answer = client.get(f"{OWN}.json")
    assert answer.status_code == 503 and FILE in answer.json()["error"]
    assert FILE in Page(client.get(OWN).text).text


def test_the_newest_is_first(client: TestClient, asked: Asked) -> None:
    for text in ("one", "two"):
        client.post(OWN, json=body(asked, text=text, author=""))
    found = client.get(f"{OWN}.json").json()
    assert [own["text"] for own in found] == ["two", "one"]
    assert found[0]["author"] is None
