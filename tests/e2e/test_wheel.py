"""The built wheel, installed apart from the checkout, does the main job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.tiny_models import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
IN_ONE_PROCESS = """
import contextlib, io, json, sys

import neuron_explainer
from neuron_explainer.cli import main
from neuron_explainer.llm.prices import read_prices
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.prompts.few_shot import read_few_shot_set

assert all(read_examples(prompt, None) for prompt in PROMPTS.values())
assert read_few_shot_set()
assert read_prices().find("gpt-4o-mini")
said = [neuron_explainer.__file__]
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["neuron-explainer", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, (arguments, ended.code)
    said.append(out.getvalue())
print(json.dumps(said))
"""
"""The data files of the package, then command lines; a list: where it is, what each printed."""


def test_the_wheel_runs_in_an_empty_folder_outside_the_checkout(tmp_path: Path) -> None:
    python = _venv_that_sees_the_dependencies(tmp_path / "venv")
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python),
        "install", "--quiet", "--no-deps", "--no-index", str(_build_wheel(tmp_path)), cwd=tmp_path,
    )  # fmt: skip
    empty = tmp_path / "empty"
    empty.mkdir()
    _run(str(python.parent / "neuron-explainer"), "run", "--tokens", "20000", "--neurons", "20",
         cwd=empty)  # fmt: skip
    assert (empty / "runs/default/report.html").stat().st_size > 10_000
    save_tiny_model(tmp_path / "lm", 1, 8, n_ctx=8192)
    command_lines = [
        ["export", "bundle.zip", "--format", "bundle"],
        ["scores", "--json"],
        ["explain", "--explainer", f"hf:{tmp_path / 'lm'}", "--neurons", "5", "--dry-run"],
    ]
    said = _run(str(python), "-c", IN_ONE_PROCESS, json.dumps(command_lines), cwd=empty)
    where, _, scores, told = json.loads(said)
    assert str(tmp_path / "venv") in where
    assert (empty / "bundle.zip").stat().st_size > 10_000
    assert '"n_units": 20' in scores
    assert told.startswith(f"5 neurons: hf:{tmp_path / 'lm'}: ")
    assert told.count("\n") == 1


def _build_wheel(folder: Path) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "neuron_explainer",
        source / "neuron_explainer",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet",
        "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source),
        cwd=folder,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def _venv_that_sees_the_dependencies(folder: Path) -> Path:
    """Its site-packages names ours, whose own .pth files (an editable install) are not read."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
