"""Versions are held against the package's own metadata, and a broken import is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from neuron_explainer.pipeline.check import Check
from neuron_explainer.pipeline.packages import (
    SHOWN,
    Installed,
    check_imports,
    check_versions,
    read_installed,
)

WHOLE = Installed(
    python="3.11.7",
    requires_python=">=3.11",
    requires=("torch>=2.6", "pandas>=2.2,<9", "jinja2>=3.1", "Asyncio_Throttle>=1.0.2",
              'datasets>=4.0; extra == "hf"', 'mypy>=99; extra == "dev"',
              'colorama>=1; sys_platform == "win32"'),
    versions={"neuron-explainer": "0.1.0", "jinja2": "3.1.6", "asyncio-throttle": "1.0.2",
              **dict.fromkeys(SHOWN, "2.13.0+cpu"), "datasets": "5.2.0"},
)  # fmt: skip
BROKEN_TORCHVISION = "operator torchvision::nms does not exist"


def by_name(installed: Installed) -> dict[str, Check]:
    return {check.name: check for check in check_versions(installed)}


def without(name: str) -> Installed:
    return replace(WHOLE, versions={k: v for k, v in WHOLE.versions.items() if k != name})


def with_version(name: str, version: str) -> Installed:
    return replace(WHOLE, versions={**WHOLE.versions, name: version})


def test_a_whole_installation_is_ok_and_shows_what_matters() -> None:
    checks = by_name(WHOLE)
    assert list(checks) == ["python", "neuron-explainer", *SHOWN, "datasets"]
    assert {check.status for check in checks.values()} == {"ok"}
    assert checks["torch"].found == "2.13.0+cpu"


def test_this_environment_is_whole() -> None:
    checks = by_name(read_installed())
    assert [check for check in checks.values() if check.status == "problem"] == []
    assert checks["torch"].found in read_installed().versions["torch"]


@pytest.mark.parametrize(
    ("name", "version", "is_old"),
    [
        ("torch", "2.5.1", True),
        ("torch", "2.6", False),
        ("torch", "2.6.0a1+cu130", False),
        ("torch", "10.0", False),
        ("pandas", "2.1.4", True),
        ("jinja2", "3", True),
        ("asyncio-throttle", "1.0.10", False),
        ("asyncio-throttle", "1.0.1", True),
    ],
)
def test_a_version_below_the_bound_is_a_problem_with_the_command(
    name: str, version: str, is_old: bool
) -> None:
    check = by_name(with_version(name, version)).get(name)
    if not is_old:
        assert check is None or check.status == "ok"
        return
    assert check is not None
    assert check.status == "problem"
    assert check.found.startswith(f"{version}, older than ")
    assert check.todo is not None
    assert check.todo.startswith(f'pip install "{name}>=')


@pytest.mark.parametrize(
    ("name", "todo"),
    [
        ("torch", 'pip install "torch>=2.6"'),
        ("jinja2", 'pip install "jinja2>=3.1"'),
        ("tokenizers", "pip install tokenizers"),
    ],
)
def test_a_package_that_is_missing_is_a_problem_with_the_command(name: str, todo: str) -> None:
    check = by_name(without(name))[name]
    assert (check.status, check.found, check.todo) == ("problem", "not installed", todo)


def test_an_optional_package_may_be_missing_and_not_be_old() -> None:
    missing, old = by_name(without("datasets")), by_name(with_version("datasets", "3.9"))
    assert missing["datasets"].status == "note"
    assert old["datasets"].status == "problem"
    assert missing["datasets"].todo == old["datasets"].todo
    assert missing["datasets"].todo == 'pip install "neuron-explainer[hf]"'


def test_an_old_python_is_a_problem() -> None:
    assert by_name(replace(WHOLE, python="3.10.12"))["python"].status == "problem"


def test_the_source_alone_is_a_note() -> None:
    bare = replace(without("neuron-explainer"), requires=(), requires_python="")
    checks = by_name(bare)
    assert checks["neuron-explainer"].status == "note"
    assert checks["torch"].status == checks["python"].status == "ok"


def importing(**errors: Exception) -> Callable[[str], Any]:
    """An import that fails for the modules that are named."""

    def import_module(name: str) -> Any:
        if name in errors:
            raise errors[name]
        names = ("Tensor", "AutoModelForCausalLM", "GPT2LMHeadModel")
        return SimpleNamespace(**dict.fromkeys(names), __name__=name)

    return import_module


def test_imports_that_work_are_ok() -> None:
    assert check_imports(WHOLE, importing()).status == "ok"


def test_a_broken_torchvision_is_named_and_removed() -> None:
    error = RuntimeError(f"{BROKEN_TORCHVISION}\nand more")
    installed = with_version("torchvision", "0.21.0")
    check = check_imports(installed, importing(transformers=error, torchvision=error))
    assert check.status == "problem"
    assert "torchvision 0.21.0 is broken" in check.found
    assert BROKEN_TORCHVISION in check.found
    assert "more" not in check.found
    assert check.todo is not None
    assert check.todo.startswith("pip uninstall torchvision")


def test_a_broken_torchvision_that_breaks_nothing_else_is_a_note() -> None:
    installed = with_version("torchvision", "0.21.0")
    check = check_imports(installed, importing(torchvision=RuntimeError(BROKEN_TORCHVISION)))
    assert check.status == "note"
    assert check_imports(installed, importing()).status == "ok"


@pytest.mark.parametrize("version", [None, "0.21.0"])
def test_without_a_broken_torchvision_transformers_itself_is_named(version: str | None) -> None:
    installed = WHOLE if version is None else with_version("torchvision", version)
    check = check_imports(installed, importing(transformers=ImportError("no")))
    assert (check.status, check.found) == (
        "problem",
        "import transformers fails (ImportError: no)",
    )
    assert check.todo == "pip install --force-reinstall transformers"


@pytest.mark.parametrize(
    "error", [OSError("libcudart.so: cannot open"), KeyError("x"), NameError()]
)
def test_whatever_an_import_raises_is_reported(error: Exception) -> None:
    check = check_imports(WHOLE, importing(torch=error))
    assert check.status == "problem"
    assert check.found.startswith(f"import torch fails ({type(error).__name__}")
