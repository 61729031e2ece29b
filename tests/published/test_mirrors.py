"""Mirror folders go into an archive and come out as others can read them."""

from __future__ import annotations

import json
from pathlib import Path

from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import Kind
from neuron_explainer.published.mirrors import export_mirror, import_mirror
from tests.formats.openai_schema import assert_loadable
from tests.published.mirror import mirror_documents, which, write_mirror

DOCUMENTS = mirror_documents(n_neurons=3)


def test_a_mirror_comes_out_as_it_went_in(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    write_mirror(there, DOCUMENTS)
    with Archive(tmp_path / "a.sqlite") as archive:
        imported = import_mirror(archive, there)
        exported = export_mirror(archive, back)
    assert imported.n_documents == exported.n_documents == len(DOCUMENTS)
    files = {p.relative_to(back).as_posix(): p.read_bytes() for p in back.rglob("*") if p.is_file()}
    assert {path: json.loads(body) for path, body in files.items()} == {
        path: json.loads(body) for path, body in DOCUMENTS.items()
    }


def test_what_comes_out_is_loadable_and_what_it_lacks_is_counted(tmp_path: Path) -> None:
    one = which(Kind.EXPLANATIONS)
    document = mirror_documents(n_neurons=8)[one.path]
    odd = b"\xef\xbb\xbf" + document.replace(b'"simulation"', b'"sequence_simulation"')
    odd = odd.replace(b'"rsquared_score":-8.25', b'"rsquared_score":NaN,"more":1') + b"\r\n"
    write_mirror(tmp_path, {one.path: odd})
    with Archive(tmp_path / "a.sqlite") as archive:
        import_mirror(archive, tmp_path)
        counts = export_mirror(archive, tmp_path / "back")
    written = (tmp_path / "back" / one.path).read_bytes()
    assert_loadable(written)
    assert json.loads(written) == json.loads(document.replace(b"-8.25", b"null"))
    assert counts.left_out == {"ScoredSimulation.more": 1}


def test_files_that_cannot_be_taken_are_told(tmp_path: Path) -> None:
    one, other = which(Kind.EXPLANATIONS), which(Kind.ACTIVATIONS)
    write_mirror(
        tmp_path,
        {one.path: b"<html>", other.path: DOCUMENTS[next(iter(DOCUMENTS))], "data/notes.txt": b""},
    )
    with Archive(tmp_path / "a.sqlite") as archive:
        counts = import_mirror(archive, tmp_path)
        assert archive.read(one) is None
    assert counts.n_documents == 0
    assert counts.n_other_files == 1
    assert [line.partition(":")[0] for line in counts.not_taken] == [other.path, one.path]


def test_a_mirror_says_of_no_document_that_there_is_none(tmp_path: Path) -> None:
    write_mirror(tmp_path, DOCUMENTS)
    with Archive(tmp_path / "a.sqlite") as archive:
        import_mirror(archive, tmp_path)
        assert archive.read(which(Kind.EXPLANATIONS)) is None
