"""Who may import whom, and what may not be loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuron_explainer

PACKAGE = Path(__file__).resolve().parents[1] / "neuron_explainer"
COLLECTION = {"records", "stores", "subject", "collector"}
ALLOWED: dict[str, set[str]] = {
    "records": set(),
    "llm": set(),
    "subject": set(),
    "stores": {"records"},
    "formats": {"records"},
    "prompts": {"records", "llm"},
    "published": {"records", "stores", "formats"},
    "collector": {"records", "stores", "subject"},
    "sae": COLLECTION,
    "attribution": COLLECTION | {"sae"},
    "influence": COLLECTION | {"sae"},
    "explainers": {"records", "llm", "prompts", "subject"},
    "simulators": {"records", "llm", "prompts"},
    "scoring": {"records", "llm", "prompts", "simulators", "subject"},
    "viewer": {"records", "stores"},
}
ALLOWED["pipeline"] = set(ALLOWED)
OF_LIGHT_COMMANDS = (
    "kept_patterns", "own_explanations", "published_search", "records", "run_lookup", "status",
    "summary", "view_hooks", "view_sources",
)  # fmt: skip
"""What show, scores, status, search, lookup and view load; semantic search alone runs a model."""
HEAVY = {"torch", "transformers", "pandas", "pyarrow", "sklearn", "scipy", "openai"}


def imports_of_rooms() -> Iterator[tuple[str, str, str]]:
    """(file, its room, imported module) of every import in a room, those in functions included."""
    for path in sorted(PACKAGE.rglob("*/*.py")):
        name = path.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((str(name), name.parts[0], alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield str(name), name.parts[0], "." * node.level + (node.module or "")


def test_every_room_imports_only_the_rooms_it_may() -> None:
    departures = []
    for name, room, module in imports_of_rooms():
        top, _, rest = module.partition(".")
        if top == "neuron_explainer":
            imported = rest.split(".")[0]
            if imported not in ALLOWED[room] | {room, "errors"}:
                departures.append(f"{name} imports {module}")
        elif top == "":
            departures.append(f"{name} imports {module}, which does not say where it is")
    assert departures == []


def test_records_need_the_standard_library_alone() -> None:
    known = {*sys.stdlib_module_names, "neuron_explainer"}
    tops = {m.split(".")[0] for _, room, m in imports_of_rooms() if room == "records"}
    assert tops <= known


@pytest.mark.parametrize(
    "module",
    [
        "neuron_explainer",
        "neuron_explainer.cli",
        "neuron_explainer.viewer.report_source",
        "neuron_explainer.viewer.app",
        *(f"neuron_explainer.pipeline.{name}" for name in OF_LIGHT_COMMANDS),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_package_and_the_viewer_start_without_what_they_may_never_need() -> None:
    for modules, unneeded in (
        ("neuron_explainer", "numpy markupsafe"),
        ("neuron_explainer.pipeline.view_sources, neuron_explainer.pipeline.view_hooks", "httpx2"),
    ):
        code = f"import sys, {modules}; print(*set('{unneeded}'.split()) & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout.split(), done.stderr) == ([], "")


def test_every_public_name_is_there_and_no_other() -> None:
    assert neuron_explainer.__all__ == sorted(neuron_explainer.__all__)
    for name in neuron_explainer.__all__:
        assert getattr(neuron_explainer, name) is not None
        assert name in dir(neuron_explainer)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        neuron_explainer.nothing  # noqa: B018
