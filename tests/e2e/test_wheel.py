"""The built wheel, installed apart from the checkout, does the main job."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.tiny_models import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
READ_DATA = """
from neuron_explainer.llm.prices import read_prices
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.prompts.few_shot import read_few_shot_set

assert all(read_examples(prompt, None) for prompt in PROMPTS.values())
assert read_few_shot_set()
assert read_prices().find("gpt-4o-mini")
print(len(PROMPTS), "prompts, a few-shot set, prices")
"""


def test_the_wheel_runs_in_an_empty_folder_outside_the_checkout(tmp_path: Path) -> None:
    python = _venv_that_sees_the_dependencies(tmp_path / "venv")
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python),
        "install", "--quiet", "--no-deps", "--no-index", str(_build_wheel(tmp_path)), cwd=tmp_path,
    )  # fmt: skip
    empty = tmp_path / "empty"
    empty.mkdir()
    where = _run(
        str(python), "-c", "import neuron_explainer; print(neuron_explainer.__file__)", cwd=empty
    )
    assert str(tmp_path / "venv") in where
    command = str(python.parent / "neuron-explainer")
    _run(command, "run", "--tokens", "40000", "--neurons", "20", cwd=empty)
    assert (empty / "runs/default/report.html").stat().st_size > 10_000
    _run(command, "export", "bundle.zip", "--format", "bundle", cwd=empty)
    assert (empty / "bundle.zip").stat().st_size > 10_000
    assert '"n_units": 20' in _run(command, "scores", "--json", cwd=empty)
    assert _run(str(python), "-c", READ_DATA, cwd=empty) == "7 prompts, a few-shot set, prices\n"
    save_tiny_model(tmp_path / "lm", 1, 8, n_ctx=8192)
    told = _run(
        command, "explain", "--explainer", f"hf:{tmp_path / 'lm'}", "--simulator", "auto",
        "--neurons", "5", "--dry-run", cwd=empty,
    )  # fmt: skip
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
