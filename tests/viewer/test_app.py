"""The viewer as a browser sees it: every page, hostile texts, unknown ids, a run that goes on."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.errors import UsageError
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer import list_routes
from neuron_explainer.viewer.app import STATIC, create_app
from neuron_explainer.viewer.forms import FORM, MOST_BYTES
from tests.page import Page
from tests.viewer.served_fakes import HOSTILE, N_LAYERS, N_UNITS, Asked, FakeRecords
from tests.viewer.viewed_runs import (
    ORIGIN,
    UNITS,
    open_client,
    run_source,
    scored,
    state_of,
    write_run,
)

PAGES = (
    "/", "/layers/0/neurons/0", "/layers/0/neurons/0?all=1", "/layers/1/neurons/6", "/table",
    "/table?sort=score&desc=1&q=time", "/search?q=time", "/search?q=time&sort=score",
    "/search?min_score=0.1", "/search?q=%22%27%3Cb%3E", "/compare", "/favourites", "/try", "/live",
    "/?method=0a",
)  # fmt: skip
PARTS = (
    "/layers/0/neurons/0/windows?set=top", "/layers/0/neurons/0/windows?set=random",
    "/layers/0/neurons/0/windows?method=0b", "/layers/0/neurons/0/windows?method=0a&whole=1",
    "/layers/0/neurons/0/tokens", "/layers/0/neurons/0/weights", "/layers/0/neurons/0/own",
)  # fmt: skip
JSONS = (
    "/home.json", "/layers/0/neurons/0.json", "/layers/0/neurons/0/weights.json", "/table.json",
    "/table.json?after=", "/search.json?q=time", "/compare.json", "/favourites.json", "/live.json",
)  # fmt: skip


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, seed=len(name))
    sources = [run_source(tmp_path / "one"), run_source(tmp_path / "two", "b", HOSTILE[0])]
    hooks = {source.key: Asked().hooks() for source in sources}
    with open_client(*sources, hooks=hooks) as opened:
        yield opened


@pytest.mark.parametrize("prefix", ["", "/s/a", "/s/b"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_whole_escaped_and_within_its_policy(
    client: TestClient, path: str, prefix: str
) -> None:
    answer = client.get(prefix + path)
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    found = Page(answer.text)
    for tag, attributes in found.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag not in ("iframe", "object", "embed", "base")
        if tag == "script":
            assert str(attributes["src"]).startswith("/static/")
        if tag == "style":
            assert "'sha256-" in policy
        for name in ("href", "src", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("/", "#", "data:,"))
    assert [tag for tag, _ in found.tags].count("h1") == 1
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not re.search(r"\bNone\b|\bnan\b", found.text)


@pytest.mark.parametrize("path", PARTS)
def test_parts_of_a_page_are_escaped_too(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    for tag, attributes in Page(answer.text).tags:
        assert tag not in ("script", "style", "img", "html")
        assert "style" not in attributes


@pytest.mark.parametrize("path", JSONS)
def test_there_is_json_beside_every_page(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() is not None


@pytest.mark.parametrize(
    "path",
    [
        "/layers/9/neurons/0", "/layers/0/neurons/99999999999999999999999", "/layers/x/neurons/1",
        "/layers/-1/neurons/1", "/layers/0/neurons/0/windows?set=../../etc/passwd",
        "/layers/0/neurons/0/windows?method=nobody", "/s/z/", "/s/..%2f..%2fetc/table", "/nothing",
        "/static/../app.py", "/static/%2e%2e/app.py", "/compare?a=a:zz&b=b:0a",
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_in_a_line(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text
    assert 'aria-current="page"' not in answer.text
    if "/static/" not in path:
        alerts = re.findall('role="alert">([^<]+)<', answer.text)
        assert len(alerts) == 1
        assert "\n" not in alerts[0]


@pytest.mark.parametrize(
    "path",
    [
        "/table?layer=x", "/table.json?n=100000", "/table.json?at=-1", "/table.json?after=zz",
        "/search?min_score=high", "/?method=nobody", "/export.csv?sort=text", "/table?method='--",
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_a_line(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 422


@pytest.mark.parametrize("path", [*PAGES, *JSONS, "/layers/9/neurons/0", "/static/view.css"])
def test_head_is_answered_as_get_without_a_body(client: TestClient, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert "content-length" not in whole.headers or head.headers["content-length"]


@pytest.mark.parametrize(
    "body",
    [b"text=" + b"x" * MOST_BYTES, b"text=a&by=name", b"text=\xff", b"text=%ff", b"a=&" * 99],
)
@pytest.mark.parametrize("path", ["/try", "/favourites/put"])
def test_a_form_that_no_page_sends_is_refused_in_a_line(
    client: TestClient, path: str, body: bytes
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": FORM})
    assert answer.status_code == 422
    assert len(re.findall('role="alert">([^<\\n]+)<', answer.text)) == 1


def test_problems_of_programs_are_json(client: TestClient) -> None:
    answer = client.get("/layers/9/neurons/9.json")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


def test_hostile_texts_show_as_text(client: TestClient) -> None:
    for unit in UNITS[:N_UNITS]:
        page = client.get(f"/layers/{unit.layer_index}/neurons/{unit.neuron_index}?all=1").text
        shown = Page(page).text
        assert "<script>document.title='x'</script>" in shown  # a token of every window
        assert "⟨U+202E⟩" in shown
        assert "\u202e" not in page
        assert not [tag for tag, _ in Page(page).tags if tag == "img"]


def test_the_page_of_a_unit_tells_what_the_results_say(client: TestClient) -> None:
    found = client.get("/layers/0/neurons/0.json").json()
    current, other = found["explanations"]
    assert (current["method"], current["is_current"]) == ("0b", True)
    assert (other["method"], other["is_current"]) == ("0a", False)
    page = Page(client.get("/layers/0/neurons/0").text).text
    for claim in (current, other):
        assert claim["text"].split(",")[0] in page
        assert f"{claim['scores']['top_and_random']['value']:.2f}".replace("-", "−") in page
    assert "explainer 0b" in page
    unexplained = Page(client.get("/layers/0/neurons/6").text).text
    assert "dead unit: never active" in unexplained


def test_what_the_weights_say_is_whole_in_every_shape(client: TestClient) -> None:
    related = client.get("/layers/1/neurons/0.json").json()["explanations"][0]["text"]
    fragment = client.get("/layers/0/neurons/0/weights").text
    for html in (fragment, client.get("/layers/0/neurons/0?all=1").text):
        shown = Page(html).text
        assert related.split(" ")[0] in shown.partition("Upstream, excite it")[2]
        promoted, suppressed = re.findall(r"(?:Promotes|Suppresses)(.*?)(?=Supp|Up)", shown, re.S)
        assert promoted.split()[-1] == "2" and suppressed.split()[-1] == "−2"
    tokens = client.get("/layers/0/neurons/0/weights.json").json()["tokens"]
    assert tokens["promoted"][0] == {"token": HOSTILE[0], "effect": 3.0}


def test_previous_and_next_lead_through_all_units(client: TestClient) -> None:
    path, seen = "/layers/0/neurons/0", 0
    while path:
        seen += 1
        links = Page(client.get(path).text).tags
        path = next((str(a["href"]) for _, a in links if a.get("rel") == "next"), "")
    assert seen == N_LAYERS * N_UNITS


def test_an_id_in_the_search_leads_to_the_unit(client: TestClient) -> None:
    answer = client.get("/s/b/search?q=1:3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/s/b/layers/1/neurons/3")


def test_a_random_unit_has_a_page(client: TestClient) -> None:
    answer = client.get("/random")
    assert answer.status_code == 303
    assert client.get(answer.headers["location"]).status_code == 200


def test_the_table_is_read_by_place_and_by_cursor_alike(client: TestClient) -> None:
    at = client.get("/table.json?sort=score&desc=1&n=500").json()
    assert at["n_rows"] == len(UNITS)
    found, after = [], ""
    while after is not None:
        page = client.get(
            "/table.json", params={"sort": "score", "desc": 1, "n": 3, "after": after}
        )
        found += page.json()["rows"]
        after = page.json()["next"]
    assert found == at["rows"]


def test_the_selection_goes_into_a_csv_file(client: TestClient) -> None:
    answer = client.get("/export.csv?status=scored&sort=score&desc=1")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    expected = client.get("/table.json?status=scored&sort=score&desc=1&n=500").json()["rows"]
    assert [row["explanation"] for row in rows] == [row["explanation"] for row in expected]
    assert [float(row["score"]) for row in rows] == [row["score"] for row in expected]


def rows_of(text: str) -> list[tuple[int, int]]:
    return [(int(row["layer"]), int(row["neuron"])) for row in csv.DictReader(io.StringIO(text))]


def test_what_is_found_goes_into_a_csv_file_once_the_best_fitting_first(client: TestClient) -> None:
    found = client.get("/search.json?q=time&n=500").json()["rows"]
    assert 0 < len(found) < len(UNITS)
    units = [(row["layer"], row["neuron"]) for row in found]
    for address in ("/export.csv?q=time", "/export.csv?q=time&sort=relevance"):
        assert rows_of(client.get(address).text) == units
    by_unit = client.get("/table.json?q=time&n=500").json()
    assert [(row["layer"], row["neuron"]) for row in by_unit["rows"]] == sorted(units)
    assert by_unit["n_rows"] == len(units)
    after = client.get("/table.json?q=time&n=500&after=").json()
    assert after["rows"] == by_unit["rows"]


def test_a_table_counts_all_that_was_found_and_is_in_the_order_it_says(client: TestClient) -> None:
    whole = client.get("/table.json?q=time&n=500").json()
    assert client.get("/table.json?q=time&n=1").json()["n_rows"] == whole["n_rows"] > 1
    assert client.get("/table.json?q=time&sort=relevance").status_code == 422
    page = client.get("/table?q=time&sort=score&desc=0")
    (rows,) = [a for _, a in Page(page.text).tags if a.get("id") == "rows"]
    asked = client.get(f"{rows['data-address']}&n=500").json()
    scores = [row["score"] for row in asked["rows"] if row["score"] is not None]
    assert len(scores) > 1
    assert scores == sorted(scores)


def test_where_a_search_ends_is_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_routes, "N_A_PAGE", 2)
    monkeypatch.setattr(list_routes, "MOST_FOUND", 2)
    assert "Next ›" in client.get("/search?q=verbs").text
    last = client.get("/search?q=verbs&at=2").text
    assert "Next ›" not in last
    assert "The first 4 are shown" in last


def test_a_layer_leads_to_the_scores_that_it_is_beside(client: TestClient) -> None:
    for path in ("/?method=0a", "/compare?a=a:0a&b=a:0b"):
        links = [a for a in Page(client.get(path).text).all("a") if "data-layer" in a]
        assert links
        assert all("method=0a" in str(a["href"]) for a in links)


def test_no_method_is_the_current_one(client: TestClient) -> None:
    for path in ("/home.json", "/random", "/table.json", "/search.json?q=time&"):
        assert client.get(f"{path}{'' if '?' in path else '?'}method=").status_code in (200, 303)
    expected = client.get("/home.json").json()
    assert client.get("/home.json?method=").json() == expected


@pytest.mark.parametrize(
    "path",
    [
        "/table.json?sort=score&after=0x1p0@0:9999999999999999999999999",
        "/layers/0/neurons/" + "9" * 5000,
        "/favourites.json?list=" + "x" * 5000,
        "/search?q=" + "9" * 299 + ":1",
    ],
)
def test_numbers_of_any_length_are_no_failure_of_the_server(client: TestClient, path: str) -> None:
    assert client.get(path).status_code < 500


def test_what_may_be_asked_is_said_where_something_else_was(client: TestClient) -> None:
    answer = client.post("/table", headers={"Origin": ORIGIN})
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert client.post("/favourites").json() == {"error": "Field required"}


def test_a_unit_is_shown_where_the_index_cannot_be_read(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "view.sqlite").write_bytes(b"no database" * 999)
    with open_client(run_source(tmp_path)) as client:
        answer = client.get("/layers/0/neurons/1")
        assert answer.status_code == 200
        assert "What is said of it" in answer.text
        assert not [a for a in Page(answer.text).all("a") if a.get("rel") in ("prev", "next")]
        assert client.get("/table").status_code == 503


def test_a_unit_is_shown_where_lists_cannot_be_read(client: TestClient, tmp_path: Path) -> None:
    before = client.get("/layers/0/neurons/1").text
    (tmp_path / "one" / "view_favourites.sqlite").write_bytes(b"no database" * 999)
    answer = client.get("/layers/0/neurons/1")
    assert answer.status_code == 200
    assert "What is said of it" in answer.text
    assert "view_favourites.sqlite" in Page(answer.text).text
    assert "view_favourites.sqlite" not in before


def test_markdown_says_what_is_said_of_the_unit(client: TestClient) -> None:
    answer = client.get("/layers/0/neurons/0.md")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("## a run, neuron 0:0\n")
    assert answer.text.count("\n- ") >= 2
    assert "- above 0 on 12 % of the tokens\n" in answer.text


def test_scripts_and_styles_come_from_the_package_alone(client: TestClient) -> None:
    for path in STATIC.iterdir():
        answer = client.get(f"/static/{path.name}")
        assert answer.status_code == 200
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")


def test_a_change_from_another_site_is_refused(client: TestClient) -> None:
    wish = {"layer": 0, "neuron": 1}
    answer = client.post("/favourites", json=wish, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert client.get("/favourites.json").json()["units"] == []


def test_a_run_that_goes_on_is_read_as_it_grows(tmp_path: Path) -> None:
    source = run_source(tmp_path)
    with open_client(source) as client:
        assert "No neuron is explained here yet" in client.get("/").text
        assert client.get("/layers/0/neurons/1").status_code == 200
        with Results(tmp_path / "results.sqlite") as results:  # open, as a run has it
            results.use_method("0a", {"explainer": "e"})
            for number, unit in enumerate(UNITS[:3], 1):
                results.add_explained("0a", Explanation(unit, f"words {unit}", "e"), scored(0.5))
                assert f"words {unit}" in client.get(_path(unit)).text
                state_of(client).update()
                assert client.get("/table.json").json()["n_rows"] == number
                assert client.get("/home.json").json()["n_units"] == number


class AskingRecords(FakeRecords):
    """Has a question asked whenever a density is read, as it is while the lists are made."""

    def __init__(self) -> None:
        self.ask: Callable[[], None] = lambda: None

    def read_density(self, neuron_id: NeuronId) -> float | None:
        self.ask()
        return super().read_density(neuron_id)


def test_pages_are_read_while_the_lists_are_being_made_and_say_so(tmp_path: Path) -> None:
    write_run(tmp_path)
    records, pages = AskingRecords(), list[str]()
    client = TestClient(
        create_app([replace(run_source(tmp_path), records=records)]), base_url=ORIGIN
    )
    records.ask = lambda: pages.append(client.get("/table").text)
    state_of(client).update()
    assert len(pages) == 2 * len(UNITS)
    assert all(f"0 of {2 * len(UNITS)} results so far" in page for page in pages)
    assert "results so far" not in client.get("/table").text


def test_what_keeps_the_lists_from_being_made_is_told_on_every_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    client = open_client(run_source(tmp_path))
    (tmp_path / "results.sqlite").write_bytes(b"no database, but long enough" * 60)
    state_of(client).update()
    assert "The lists are not up to date: " in client.get("/table").text
    assert "results.sqlite" in client.get("/").text


def test_an_index_that_cannot_be_made_does_not_hide_the_units(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "view.sqlite").write_bytes(b"no database, but long enough for a header" * 40)
    client = open_client(run_source(tmp_path))
    assert client.get("/table").status_code == 503


def test_beyond_this_machine_a_token_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--token"):
        create_app([run_source(tmp_path)], host="0.0.0.0")
    write_run(tmp_path)
    client = open_client(run_source(tmp_path), host="0.0.0.0", token="secret")
    assert client.get("/").status_code == 401
    assert client.get("/?token=secret").status_code == 303
    assert client.get("/", headers={"Host": "any.name"}).status_code == 200


def test_nothing_to_view_is_told() -> None:
    with pytest.raises(UsageError, match="--run"):
        create_app([])


def _path(unit: NeuronId) -> str:
    return f"/layers/{unit.layer_index}/neurons/{unit.neuron_index}"
