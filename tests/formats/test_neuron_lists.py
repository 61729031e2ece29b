"""A list of neurons reads the same from every kind of file, and a bad line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.neuron_lists import read_neuron_list
from neuron_explainer.records.neuron import NeuronId

IDS = [NeuronId(3, 2), NeuronId(0, 17), NeuronId(3, 2)]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".jsonl", ".json", ".txt", ""])
@pytest.mark.parametrize("names", [("layer", "neuron"), ("Layer Index", "feature_id")])
def test_every_kind_of_file_gives_the_same_list(
    tmp_path: Path, ending: str, names: tuple[str, str]
) -> None:
    path = tmp_path / f"list{ending}"
    rows = [{names[0]: i.layer_index, "index": 9, names[1]: i.neuron_index} for i in IDS]
    frame = pd.DataFrame(rows)
    match ending:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".parquet":
            frame.to_parquet(path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case _:
            path.write_text(" \n".join(map(str, IDS)), encoding="utf-8-sig")
    assert read_neuron_list(path) == IDS


def test_remarks_in_a_text_are_no_neurons(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# what I look at\n2:417 0:3\n9:6236 # Canada\n\n#0:1\n")
    assert list(map(str, read_neuron_list(path))) == ["2:417", "0:3", "9:6236"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"1:2\n2:3 x", "line 2: 'x' is not a neuron; write LAYER:NEURON"),
        ("a.txt", b"1:" + b"9" * 5000, "line 1: '1:999.*…' is not a neuron"),
        ("a.txt", b"1:2 \xe9", "not UTF-8 text"),
        ("a.csv", b"layer,score\n1,2\n", r"columns layer and neuron \(this one has layer, score\)"),
        ("a.csv", b"layer,neuron\n1,2\n1,x\n", "line 3: 'x' is not the number of a neuron"),
        ("a.csv", b"layer,neuron\n1,\n", "line 2: '' in column 'neuron'"),
        ("a.jsonl", b'{"layer": 1, "neuron": -2}', "line 1: -2 in column 'neuron'"),
        ("a.csv", b"layer,neuron\n6-res-jb,1\n", "'6-res-jb' is not the number of a layer"),
        ("a.parquet", b"PAR1", "no parquet, or damaged"),
    ],
)
def test_what_is_no_list_is_refused_with_the_line(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordFormatError, match=rf"{name}: .*{says}"):
        read_neuron_list(tmp_path / name)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "a.csv", "a.parquet"):
        with pytest.raises(RecordFormatError, match="there is no such file or folder"):
            read_neuron_list(tmp_path / name)
