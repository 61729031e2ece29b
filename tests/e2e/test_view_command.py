"""What `view` refuses before it opens anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_lines import Call, assert_one_line


@pytest.mark.parametrize("token", ["", "日本", "a\nb", "\x7f"])
def test_a_token_that_no_address_could_carry_is_refused(call: Call, token: str) -> None:
    assert_one_line(call("view", "--token", token), 2, "--token takes letters")


def test_a_run_given_twice_is_refused_by_whatever_path(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("run")
    assert_one_line(call("view", "--run", "run", "--run", "./run"), 2, "is given twice")
    assert_one_line(call("view", "--run", "run", "--run", "link"), 2, "is given twice")
