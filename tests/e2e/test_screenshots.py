"""The pictures of the README are taken of a run, in a browser."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from jobs.chromium import NoBrowser, open_browser
from jobs.screenshots import WIDTH_PX, take_screenshots
from neuron_explainer.errors import UsageError

NAMES = {"home.png", "unit.png", "compare.png", "report.png"}


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels (PNG, third edition, 11.2.1)."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:])
    return width, height


def test_four_pictures_are_taken_of_a_run(finished_run: Path, tmp_path: Path) -> None:
    try:
        with open_browser():
            pass
    except NoBrowser as missing:
        pytest.skip(str(missing))
    pictures = tmp_path / "pictures"
    take_screenshots(run=finished_run, unit="0:1", to=pictures)
    assert {path.name for path in pictures.iterdir()} == NAMES
    for name in NAMES:
        width, height = png_size(pictures / name)
        assert width == WIDTH_PX
        assert 0 < height <= 1400
        assert (pictures / name).stat().st_size > 20_000  # more than an empty page


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"report\.html is not there; run `neuron-explainer run"):
        take_screenshots(run=tmp_path, to=tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
