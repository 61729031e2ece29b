"""A text that is typed in is read once, shown as text, and says of each token who fires on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.display import printable
from neuron_explainer.viewer.hooks import Hooks, UnitReading, no_hooks
from neuron_explainer.viewer.served import MAX_CHARS, require_text
from tests.page import Page
from tests.viewer.served_app import open_client
from tests.viewer.served_fakes import HOSTILE, N_UNITS, Asked

TEXT = "the river of Tuesday"


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def client(tmp_path: Path, asked: Asked) -> TestClient:
    return open_client(tmp_path, {"a": asked.hooks(), "b": no_hooks("no model <here>")})


def test_without_a_text_there_is_a_form_and_nothing_is_read(
    client: TestClient, asked: Asked
) -> None:
    page = Page(client.get("/try").text)
    (area,) = page.all("textarea")
    labelled = {attributes.get("for") for attributes in page.all("label")}
    assert area["id"] in labelled
    assert asked.texts == []


def test_one_unit_has_its_value_on_every_token(client: TestClient, asked: Asked) -> None:
    answer = client.get("/try.json", params={"text": TEXT, "unit": "1:4"}).json()
    assert answer["tokens"] == ["the", " river", " of", " Tuesday"]
    assert answer["activations"] == [None, 0.0, 1.0, 2.0]
    assert answer["unit"] == "1:4"
    assert asked.texts == [TEXT]
    page = Page(client.get("/try", params={"text": TEXT, "unit": "1:4"}).text)
    sides = [a for tag, a in page.tags if "data-values" in a]
    assert [side["data-values"] for side in sides] == ["- 0 1 2"]
    assert "not counted" in page.text
    assert "/layers/1/neurons/4" in {a.get("href") for a in page.all("a")}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_lines_end_as_they_were_typed(client: TestClient, asked: Asked, method: str) -> None:
    """A form ends each with CR LF."""
    typed = {"text": "a b\r\nc \r d"}
    given = {"params": typed} if method == "GET" else {"data": typed}
    assert client.request(method, "/try.json", **given).status_code == 200
    assert client.request(method, "/try", **given).status_code == 200
    assert asked.texts == ["a b\nc \r d"] * 2


def test_a_short_text_leads_to_an_address_to_share(client: TestClient, asked: Asked) -> None:
    form = {"text": "a\r\nb", "unit": " 1:4 ", "layer": "", "by": "activation"}
    answer = client.post("/s/b/try", data=form, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/s/b/try?text=a%0Ab&unit=1%3A4&by=activation"
    assert asked.texts == []


@pytest.mark.parametrize("word", ["word ", "字", "😀 "])
def test_a_text_of_any_script_may_have_all_the_characters_that_the_form_takes(
    client: TestClient, asked: Asked, word: str
) -> None:
    text = (word * MAX_CHARS)[:MAX_CHARS].strip()
    answer = client.post("/try", data={"text": text})
    assert answer.status_code == 200 and not answer.history
    assert asked.texts == [text]
    assert "none to share" in answer.text
    assert max(len(a.get("href") or "") for a in Page(answer.text).all("a")) < 100


def test_colour_is_full_at_the_most_on_record(client: TestClient) -> None:
    html = client.get("/try", params={"text": TEXT, "unit": "0:7"}).text
    assert "full at 8" in html  # unit 7 has 8 on record
    html = client.get("/try", params={"text": TEXT + " a b c d e f g h i", "unit": "0:0"}).text
    assert "full at 11" in html  # more than ever before


def test_units_are_ranked_on_each_token_with_their_explanations(client: TestClient) -> None:
    answer = client.get("/try.json", params={"text": TEXT}).json()
    assert answer["layers"] == [0, 1] and answer["n_units"] == 2 * N_UNITS
    assert answer["firing"][:2] == [None, []]
    assert [one["unit"] for one in answer["firing"][2]] == ["0:0", "0:1", "0:2"]
    units = {one["unit"]: one for one in answer["units"]}
    assert units["0:0"]["text"] == HOSTILE[0] and units["0:0"]["value"] == 0.5
    assert units["0:1"]["text"] is None and units["0:1"]["reason"] == "not explained"
    values = [one["activation"] for one in answer["units"]]
    assert values == sorted(values, reverse=True)


def test_units_are_ranked_by_share_unless_activation_is_asked_for(
    client: TestClient, asked: Asked
) -> None:
    client.get("/try.json", params={"text": TEXT})
    client.get("/try.json", params={"text": TEXT, "by": "activation"})
    assert asked.by_share == [True, False]
    assert client.get("/try.json", params={"text": TEXT, "by": "name"}).status_code == 422


def test_every_unit_that_is_named_is_a_link_to_its_page(client: TestClient) -> None:
    page = Page(client.get("/try", params={"text": TEXT, "layer": "1"}).text)
    links = {a.get("href") for a in page.all("a")}
    assert {f"/layers/1/neurons/{n}" for n in range(3)} <= links
    assert "none is above 0" in page.text and "not counted" in page.text


def test_explained_units_alone_may_be_asked_for(client: TestClient) -> None:
    answer = client.get("/try.json", params={"text": TEXT, "explained": "true"}).json()
    assert answer["n_units"] == 2
    assert {one["unit"] for one in answer["units"]} == {"0:0", "0:2"}


def test_a_text_beyond_the_window_is_told_of(client: TestClient) -> None:
    params = {"text": " ".join("abcdefghijklmnopqr")}
    assert client.get("/try.json", params=params).json()["n_left_out"] == 3
    assert "3 tokens at its end were not read" in client.get("/try", params=params).text


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.strip()])
def test_what_is_typed_shows_as_text(client: TestClient, text: str) -> None:
    plain = Page(client.get("/try", params={"text": "harmless words here"}).text)
    for params in ({"text": f"a b c {text}"}, {"text": f"a {text}", "unit": "1:2"}):
        answer = client.get("/try", params=params)
        page = Page(answer.text)
        assert answer.status_code == 200
        assert len(page.all("script")) == len(plain.all("script"))
        assert len(page.all("textarea")) == 1 and not page.all("img")
        assert not any(name.startswith("on") for _, a in page.tags for name in a)
        assert printable(text.strip()).split()[0] in page.text


def test_a_page_of_colours_has_no_style_attribute(client: TestClient) -> None:
    answer = client.get("/try", params={"text": TEXT})
    assert not any("style" in attributes for _, attributes in Page(answer.text).tags)
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("params", "status", "said"),
    [
        ({"text": "  "}, 422, "is empty"),
        ({"text": "x" * (MAX_CHARS + 1)}, 422, "20,001 characters"),
        ({"text": TEXT, "unit": "../etc"}, 422, "is not a neuron"),
        ({"text": TEXT, "unit": "1:99"}, 404, "1:99"),
        ({"text": TEXT, "layer": "x"}, 422, "layer=x: write a whole number"),
        ({"text": TEXT, "layer": "²"}, 422, "layer=²: write a whole number"),
        ({"text": TEXT, "layer": "9" * 5000}, 422, "layer=999"),
        ({"text": TEXT, "unit": "0:" + "9" * 5000}, 422, "is not a neuron"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(
    client: TestClient, params: dict[str, str], status: int, said: str
) -> None:
    answer = client.get("/try.json", params=params)
    assert answer.status_code == status
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]
    page = client.get("/try", params=params)
    assert page.status_code == status
    assert said in Page(page.text).text


def test_a_source_without_a_model_says_why(client: TestClient) -> None:
    page = Page(client.get("/s/b/try").text)
    assert "no model <here>" in page.text and not page.all("textarea")
    answer = client.get("/s/b/try.json", params={"text": TEXT})
    assert (answer.status_code, answer.json()["error"]) == (422, "no model <here>")
    assert client.get("/s/nobody/try").status_code == 404


def test_a_model_that_cannot_be_loaded_is_the_answer_and_not_a_crash(tmp_path: Path) -> None:
    def fail(_neuron_id: NeuronId, _text: str) -> UnitReading:
        raise SubjectError("no such model on this machine")

    reasons = no_hooks("x").reasons
    hooks = Hooks(read_unit=fail, reasons={n: r for n, r in reasons.items() if n != "read_unit"})
    client = open_client(tmp_path, {"a": hooks})
    answer = client.get("/try", params={"text": TEXT, "unit": "1:4"})
    assert answer.status_code == 503
    assert "no such model on this machine" in Page(answer.text).text


def test_spaces_around_a_text_that_is_read_are_part_of_it() -> None:
    assert require_text("  lead \n", "text", as_it_is=True) == "  lead \n"
    assert require_text("  lead \n", "explanation") == "lead"
    with pytest.raises(UsageError, match="is empty"):
        require_text(" \n", "text", as_it_is=True)
