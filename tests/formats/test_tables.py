"""Tables of explanations: any spelling is read, what is wrong names its line, nothing is silent."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError, UsageError
from neuron_explainer.formats.listed_rows import COLUMNS
from neuron_explainer.formats.tables import read_table, to_frame, write_table
from neuron_explainer.records.listed import ListedExplanation, ListedScore, Polarity, plain_claim
from neuron_explainer.records.neuron import NeuronId
from tests.listed import FULL, LISTED, PLAIN

FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read(path: Path, **more: Any) -> tuple[list[ListedExplanation], Counter[str]]:
    left_out: Counter[str] = Counter()
    return list(read_table(path, left_out, **more)), left_out


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "header",
    [
        "layer,neuron,explanation,score",
        "Layer,Unit,Description,Score",
        "layer_index,neuron_index,explanation,explanation_score",
        " LAYER , Latent Index , Explanation Text , score ",
        "layer,feature,description,score",
        "layer,index,label,score",
    ],
)
def test_any_spelling_of_the_columns_is_read(tmp_path: Path, header: str) -> None:
    path = written(tmp_path, "list.csv", f"{header}\n9,17, rivers.,0.5\n")
    expected = ListedExplanation(
        NeuronId(9, 17), " rivers.", "list.csv", scores=(ListedScore(0.5),)
    )
    assert read(path) == ([expected], Counter())


@pytest.mark.parametrize(
    ("layer", "unit", "neuron_id", "site"),
    [
        ("9", "17", NeuronId(9, 17), None),
        ("9.0", "17.0", NeuronId(9, 17), None),
        ("", "9:17", NeuronId(9, 17), None),
        ("6-res-jb", "17", NeuronId(6, 17), "res-jb"),
        ("layers.5.mlp", "17", NeuronId(5, 17), "layers.{layer}.mlp"),
        ("transformer.h.5", "17", NeuronId(5, 17), "transformer.h.{layer}"),
        ("layers.3.experts.2", "17", NeuronId(3, 17), "layers.{layer}.experts.2"),
    ],
)
def test_a_place_may_be_written_in_several_ways(
    tmp_path: Path, layer: str, unit: str, neuron_id: NeuronId, site: str | None
) -> None:
    path = written(tmp_path, "list.csv", f"layer,neuron,explanation\n{layer},{unit},rivers\n")
    (explanation,), left_out = read(path)
    assert (explanation.neuron_id, explanation.site) == (neuron_id, site)
    assert not left_out


def test_a_column_for_each_style_gives_an_explanation_for_each(tmp_path: Path) -> None:
    content = (
        "Layer,Feature,Sae Type,Sae Size,MaxAct Description,Raw (All) Description,"
        "MaxAct Input Success,MaxAct Output Success,Raw (All) Input Success\n"
        '3,122637,mlp-out,128k, the word "a",,True,False,True\n'
    )
    (explanation,), left_out = read(written(tmp_path, "wide.csv", content))
    assert (explanation.explainer, explanation.site) == ("MaxAct", "mlp-out-128k")
    assert explanation.scores == (ListedScore(1, "input_success"), ListedScore(0, "output_success"))
    assert left_out == {"explanation without text": 1}


def test_styles_without_a_suffix_are_read_where_all_rows_have_the_same_columns(
    tmp_path: Path,
) -> None:
    content = "Layer,Neuron,Original,Summary\n0,3481,demands.,requests\n"
    explanations, _ = read(written(tmp_path, "wide.csv", content))
    assert [(e.explainer, e.text) for e in explanations] == [
        ("Original", "demands."), ("Summary", "requests"),
    ]  # fmt: skip


def test_a_column_of_numbers_is_no_style(tmp_path: Path) -> None:
    path = written(tmp_path, "wide.csv", "layer,neuron,Original,density\n0,1,rivers,0.25\n")
    with pytest.raises(RecordFormatError, match=r"line 2: column 'density' holds '0\.25'"):
        read(path)


def test_what_a_row_lacks_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    content = (
        "layer,neuron,explanation,score,notes\n1,2,,0.5,\n1,,rivers,,\n,2,rivers,,x\n"
        "1,2,rivers,nan,\n1,2,rivers,N/A,\n1,2,seas,,\n"
    )
    explanations, left_out = read(written(tmp_path, "list.csv", content))
    assert [(e.text, e.scores) for e in explanations] == [
        ("rivers", ()), ("rivers", ()), ("seas", ()),
    ]  # fmt: skip
    assert left_out == {
        "explanation without text": 1,
        "explanation without a unit": 1,
        "explanation without a layer": 1,
        "score that is no number": 2,
        "column 'notes'": 1,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ("layer,neuron\n1,2\n", "line 2: no column of explanations (has layer, neuron)"),
        ("0,1,rivers\n0,2,seas\n", "(has 0, 1, rivers); does line 1 name the columns?"),
        ("layer;neuron;explanation\n1;2;a, b\n", "line 1: semicolons separate the columns, not"),
        ("layer\tneuron\texplanation\n1\t2\ta\n", "line 1: tabs separate the columns, not commas"),
        ("layer,neuron,explanation\r1,2,rivers\r", r"line 1: \r alone ends no line; save the file"),
        ("layer,explanation\n1,rivers\n", "line 2: no column of neurons or units"),
        ("layer,layer,neuron,explanation\n", "line 1: the column 'layer' is there twice"),
        ("layer,neuron,explanation\n1,2\n", "line 2: 2 cells for 3 columns"),
        ("layer,neuron,explanation\n1,2,rivers, seas\n", "line 2: 4 cells for 3 columns"),
        ("layer,neuron,explanation\n1,2,a\n1,x,rivers\n", "line 3: 'x' is not the number of a"),
        ("layer,neuron,explanation\n1,-2,rivers\n", "line 2: '-2' is not the number of a unit"),
        ("layer,neuron,explanation\n1,2.5,rivers\n", "line 2: '2.5' is not the number of a unit"),
        ("layer,neuron,explanation\nmlp,2,rivers\n", "line 2: 'mlp' is not a layer"),
        ("layer,neuron,explanation\n1,3:2,rivers\n", "line 2: layer 1, but the unit is 3:2"),
        (f"layer,neuron,explanation\n1,{2**63},a\n", "is not a neuron_index"),
        (f"layer,neuron,explanation\n1,{'9' * 5000},a\n", "is not the number of a unit"),
        ("layer,neuron,explanation,score\n1,2,a,high\n", "line 2: 'high' is not a score"),
        ("layer,neuron,explanation,polarity\n1,2,a,up\n", "line 2: 'up' is not a polarity"),
        ('layer,neuron,explanation\n1,2,"rivers\n', "is a quote missing before it?"),
        ('layer,neuron,explanation\n1,2,"a" b\n', "line 2: "),
        (b"layer,neuron,explanation\n1,2,caf\xe9\n", "line 2: not UTF-8 (byte 7 of it)"),
        ("layer,neuron,explanation\n".encode("utf-16"), "line 1: not UTF-8 (byte 0 of it)"),
        ("layer,neuron,explanation\n".encode("utf-16-le"), "line 1: a NUL"),
        ("layer,neuron,explanation,other_scores\n1,2,a,[1]\n", "1 is not [score, kind, scorer]"),
        ("layer,neuron,explanation,other_scores\n1,2,a,x\n", "line 2: other scores are no JSON"),
    ],
)
def test_what_cannot_be_meant_names_the_file_and_the_line(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    path = written(tmp_path, "list.csv", content)
    with pytest.raises(RecordFormatError, match=r"list\.csv: ") as raised:
        read(path)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_marks_line_ends_and_quotes_do_not_matter(tmp_path: Path) -> None:
    plain = 'layer,neuron,explanation\n1,2,"the word ""a"", or b"\n\n1,3,rivers\n'
    for name, content in {
        "mark.csv": b"\xef\xbb\xbf" + plain.encode(),
        "windows.csv": plain.replace("\n", "\r\n").encode(),
        "cut.csv": plain.rstrip("\n").encode(),
        "tabs.tsv": plain.replace(",", "\t").replace("\t or", ", or").encode(),
        "packed.CSV.GZ": gzip.compress(plain.encode()),
    }.items():
        explanations, _ = read(written(tmp_path, name, content))
        assert [e.text for e in explanations] == ['the word "a", or b', "rivers"]


@pytest.mark.parametrize("index", ["0", "abc"])
@pytest.mark.parametrize("more", ["", ",other_scores"])
def test_a_column_without_a_name_is_counted_and_no_part_of_an_explanation(
    tmp_path: Path, index: str, more: str
) -> None:
    frame = pd.DataFrame(
        {"layer": [9], "neuron": [17], "explanation": [" rivers."], "score": [0.5]}, index=[index]
    )
    if more:
        frame["other_scores"] = '[[0.25, "kind", null]]'
    expected = ListedExplanation(
        NeuronId(9, 17), " rivers.", "list",
        scores=(ListedScore(0.5), *([ListedScore(0.25, "kind")] if more else [])),
    )  # fmt: skip
    frame.to_csv(tmp_path / "list.csv")
    frame.reset_index(names="").to_json(tmp_path / "list.jsonl", orient="records", lines=True)
    for name in ("list.csv", "list.jsonl"):
        answer = read(tmp_path / name, source="list")
        assert answer == ([expected], {"column without a name": 1})


def test_a_text_may_hold_line_ends(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", 'layer,neuron,explanation\r\n1,2,"a\r\nb\rc\nd"\r\n')
    assert read(path)[0][0].text == "a\r\nb\rc\nd"


def test_json_lines_may_each_have_other_fields(tmp_path: Path) -> None:
    content = (
        '{"layer": 1, "neuron": 2, "explanation": "rivers", "ev_correlation_score": 0.5}\n\n'
        '{"layer": 1, "unit": "3", "description": "seas", "polarity": -1, "score": NaN}\n'
    )
    explanations, left_out = read(written(tmp_path, "list.jsonl", content), model="gpt2")
    assert [e.scores for e in explanations] == [(ListedScore(0.5, "ev_correlation_score"),), ()]
    assert [e.polarity for e in explanations] == [None, Polarity.NEGATIVE]
    assert {e.model for e in explanations} == {"gpt2"}
    assert left_out == {"score that is no number": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"layer": 1', "line 1: no JSON"),
        ("[1, 2]", "line 1: list, not an object"),
        ('{"layer": 1, "neuron": 2, "explanation": 3}', "line 1: an explanation is 3, not a text"),
        ('{"layer": true, "neuron": 2, "explanation": "a"}', "True is not the number of a layer"),
        ('{"layer": [1], "neuron": 2, "explanation": "a"}', "[1] is not the number of a layer"),
        ('{"layer": 1, "neuron": 2, "text": "rivers"}', "line 1: no column of explanations"),
        ('{"layer": 1, "neuron": 1e400, "explanation": "a"}', "inf is not the number of a unit"),
        ('{"layer": 1, "neuron": 2, "explanation": "a", "model": {}}', "{} , not a text"),
        ("[" * 100_000, "line 1: no JSON"),
        (f'{{"layer": {"9" * 5000}}}', "line 1: no JSON (a number of more than 4,300 digits)"),
        ('{"layer": 1, "layer": 2}', "line 1: no JSON (the field 'layer' is there twice)"),
    ],
)
def test_a_damaged_line_of_json_is_named(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(RecordFormatError) as raised:
        read(written(tmp_path, "list.jsonl", content))
    assert reason.replace("{} ,", "{},") in str(raised.value)


def test_half_a_surrogate_pair_and_a_nul_are_counted(tmp_path: Path) -> None:
    rows = [{"layer": 1, "neuron": 2, "explanation": text} for text in ("a \ud83d", "a\0", "b")]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    explanations, left_out = read(written(tmp_path, "list.jsonl", content))
    assert [e.text for e in explanations] == ["b"]
    assert left_out == {"explanation with a NUL or half a surrogate pair": 2}


@pytest.mark.parametrize(
    "document",
    [
        {"7": [1, 2, " rivers", 0.94]},
        {"7": {"layer": 1, "neuron": 2, "explanation": " rivers", "score": 0.94}},
        [{"layer": 1, "neuron": 2, "explanation": " rivers", "score": 0.94}],
        {"layer": 1, "neuron": 2, "explanation": " rivers", "score": 0.94},
    ],
)
def test_a_json_document_is_a_list_or_an_object_by_id(tmp_path: Path, document: Any) -> None:
    path = written(tmp_path, "list.json", json.dumps(document))
    expected = ListedExplanation(
        NeuronId(1, 2), " rivers", "list.json", scores=(ListedScore(0.94),)
    )
    assert read(path)[0] == [expected]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("3", "int, not a list or an object"),
        ('{"7": [1, 2]}', "entry '7': 2 values where layer, neuron, explanation, score belong"),
        ("[3]", "entry 1: int, not an object"),
        ("[", "no JSON"),
    ],
)
def test_another_json_document_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(RecordFormatError) as raised:
        read(written(tmp_path, "list.json", content))
    assert reason in str(raised.value)


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
@pytest.mark.parametrize("explanations", [[], [PLAIN], [FULL], [PLAIN, FULL, PLAIN]])
def test_what_is_written_reads_back_equal(
    tmp_path: Path, name: str, explanations: Sequence[ListedExplanation]
) -> None:
    path = tmp_path / name
    assert write_table(path, explanations) == len(explanations)
    assert read(path) == (list(explanations), Counter())


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
@FEW
@given(explanations=st.lists(LISTED, max_size=4))
def test_any_explanation_reads_back_equal(
    tmp_path: Path, name: str, explanations: list[ListedExplanation]
) -> None:
    path = tmp_path / name
    write_table(path, explanations)
    assert read(path) == (explanations, Counter())


def test_a_frame_has_the_columns_and_null_for_what_is_not_said() -> None:
    frame = to_frame([PLAIN, FULL])
    assert list(frame.columns) == list(COLUMNS)
    assert frame.loc[0].dropna().to_dict() == {
        "layer": 0, "neuron": 0, "explanation": "rivers", "source": "a list.csv",
    }  # fmt: skip
    assert frame.loc[1, "score"] == FULL.scores[0].value


def test_a_table_of_another_kind_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet"):
        write_table(tmp_path / "list.txt", [PLAIN])


def test_a_parquet_file_of_pandas_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    frame = pd.DataFrame(
        {
            "layer": [1, 1],
            "index": [2.0, None],
            "description": ["rivers", "seas"],
            "score": [0.5, None],
        }
    )
    frame.to_parquet(path)
    explanations, left_out = read(path)
    assert [(e.neuron_id, e.scores) for e in explanations] == [
        (NeuronId(1, 2), (ListedScore(0.5),)),
    ]  # fmt: skip
    assert left_out == {"explanation without a unit": 1}


@pytest.mark.parametrize("name", ["a.txt", "a.parquet.gz", "a"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordFormatError, match=r"unknown file ending; known are \.csv"):
        read(written(tmp_path, name, ""))


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet", "absent.json"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordFormatError, match="there is no such file or folder"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet"])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole.parquet"
    write_table(whole, [FULL])
    content = whole.read_bytes() if name.endswith("parquet") else gzip.compress(b"{}\n" * 100)
    for size in (0, 10, len(content) - 9):
        if size or name.endswith("parquet"):
            with pytest.raises(RecordFormatError):
                read(written(tmp_path, name, content[:size]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["long.jsonl", "long.csv", "long.json"])
def test_a_line_of_100_mb_is_read(tmp_path: Path, name: str) -> None:
    text = "rivers " * (100_000_000 // 7)
    row = {"layer": 1, "neuron": 2, "explanation": text}
    content = f"layer,neuron,explanation\n1,2,{text}\n" if name == "long.csv" else json.dumps(row)
    assert len(read(written(tmp_path, name, content))[0][0].text) == len(text)


LISTS = {
    "gpt2xl_explanations_960.csv": 960,
    "gpt2xl_explanations_60.csv": 60,
    "gpt2xl_explanations_16517.json": 16_517,
    "gpt2xl_reexplained_top20_gpt35.csv": 940 * 5,
    "gpt2_small_sae_descriptions.csv": 1430 * 8,
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", LISTS)
def test_every_published_list_is_read_whole(shared_data: Path, name: str) -> None:
    explanations, left_out = read(shared_data / "published" / name)
    assert len(explanations) == LISTS[name]
    assert left_out == {}


@pytest.mark.shared_data
def test_published_lists_agree_where_they_overlap(shared_data: Path) -> None:
    of_960, of_60, of_16517 = (
        {e.neuron_id: e for e in read(shared_data / "published" / name)[0]}
        for name in (
            "gpt2xl_explanations_960.csv",
            "gpt2xl_explanations_60.csv",
            "gpt2xl_explanations_16517.json",
        )
    )
    assert not of_960.keys() & of_60.keys()
    shorter = of_960 | of_60
    in_both = shorter.keys() & of_16517.keys()
    assert len(in_both) == 260 + 5
    for neuron_id in in_both:
        one, other = shorter[neuron_id], of_16517[neuron_id]
        assert plain_claim(one.text) == plain_claim(other.text)
        assert one.score is not None
        assert other.score is not None
        assert round(one.score.value, 2) == other.score.value
