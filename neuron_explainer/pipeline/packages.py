"""What is installed: versions against the bounds that the package declares, and does it import."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from neuron_explainer.pipeline.check import Check, first_line, note, ok, problem

OURS = "neuron-explainer"
SHOWN = ("torch", "transformers", "tokenizers", "openai", "pandas", "scipy", "safetensors")
EXTRAS = {"datasets": "hf"}
"""Optional package -> the extra that brings it."""
MODEL_CLASSES = ("AutoModelForCausalLM", "GPT2LMHeadModel")
Import = Callable[[str], Any]
"""`importlib.import_module`; whatever the module raises comes out."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What pip knows of this environment."""

    python: str
    requires_python: str
    """Such as `>=3.11`; empty when it is not known."""
    requires: tuple[str, ...]
    """As declared: `torch>=2.6`, `mypy>=1.15; extra == "dev"`."""
    versions: Mapping[str, str]
    """Of what is installed."""


def read_installed() -> Installed:
    """This environment; without requirements when the package runs from its source alone."""
    try:
        requires = tuple(metadata.requires(OURS) or ())
        requires_python = "".join(metadata.metadata(OURS).get_all("Requires-Python", []))
    except metadata.PackageNotFoundError:
        requires, requires_python = (), ""
    names = {OURS, *SHOWN, *EXTRAS, *(_name(line) for line in requires), "torchvision"}
    versions = {name: version for name in sorted(names) if (version := _version(name))}
    return Installed(platform.python_version(), requires_python, requires, versions)


def check_versions(installed: Installed) -> Iterator[Check]:
    """Python, the package, then its dependencies; those not SHOWN only when they are not ok."""
    least = _lower_bound(installed.requires_python)
    python = f"{installed.python}, {platform.system()} {platform.machine()}"
    if _is_below(installed.python, least):
        yield problem("python", python, f"make a new environment with Python {least} or newer")
    else:
        yield ok("python", python)
    bounds = {_name(line): _lower_bound(line) for line in installed.requires if _applies(line)}
    if OURS in installed.versions:
        yield ok(OURS, installed.versions[OURS])
    else:
        yield note(OURS, "runs from its source, not installed", "pip install --editable .")
    for name in (*SHOWN, *sorted(set(bounds) - {*SHOWN, *EXTRAS})):
        check = _check_version(name, installed.versions.get(name), bounds.get(name))
        if name in SHOWN or check.status != "ok":
            yield check
    for name, extra in EXTRAS.items():
        yield _check_optional(name, extra, installed.versions.get(name), bounds.get(name))


def check_imports(installed: Installed, import_module: Import = importlib.import_module) -> Check:
    """Whether a model can be loaded at all; a broken torchvision may take transformers with it."""
    name = "imports"
    error = _import_error(import_module, "torch", "Tensor")
    if error is not None:
        return problem(name, f"import torch fails ({error})", _reinstall("torch"))
    error = _import_error(import_module, "transformers", *MODEL_CLASSES)
    torchvision = installed.versions.get("torchvision")
    if torchvision is not None and _import_error(import_module, "torchvision", "__name__"):
        remove = "pip uninstall torchvision; nothing here needs it"
        found = f"torchvision {torchvision} is broken"
        if error is None:
            return note(name, f"{found}; torch and transformers load all the same", remove)
        return problem(name, f"{found}, and takes transformers with it ({error})", remove)
    if error is not None:
        return problem(name, f"import transformers fails ({error})", _reinstall("transformers"))
    return ok(name, "torch, and the models of transformers")


def _check_version(name: str, version: str | None, least: str | None) -> Check:
    wanted = name if least is None else f'"{name}>={least}"'
    if version is None:
        return problem(name, "not installed", f"pip install {wanted}")
    if _is_below(version, least):
        return problem(name, f"{version}, older than {least}", f"pip install {wanted}")
    return ok(name, version)


def _check_optional(name: str, extra: str, version: str | None, least: str | None) -> Check:
    way = f'pip install "{OURS}[{extra}]"'
    if version is None:
        return note(name, "not installed; only data sets from the hub need it", way)
    if _is_below(version, least):
        return problem(name, f"{version}, older than {least}", way)
    return ok(name, version)


def _reinstall(name: str) -> str:
    return f"pip install --force-reinstall {name}"


def _import_error(import_module: Import, module: str, *attributes: str) -> str | None:
    """Attributes too, as transformers imports what is behind them only then."""
    try:
        imported = import_module(module)
        for attribute in attributes:
            getattr(imported, attribute)
    except Exception as error:  # importing runs the module's code, which may raise anything
        return first_line(error)
    return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def _lower_bound(requirement: str) -> str | None:
    match = re.search(r">=\s*([\d.]+)", requirement.partition(";")[0])
    return match[1] if match else None


def _applies(requirement: str) -> bool:
    """Whether it is required in any case, or by one of EXTRAS."""
    marker = requirement.partition(";")[2].strip()
    match = re.fullmatch(r"extra == ['\"]([\w-]+)['\"]", marker)
    return not marker or (match is not None and match[1] in EXTRAS.values())


def _is_below(version: str, least: str | None) -> bool:
    return least is not None and _release(version) < _release(least)


def _release(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13): trailing zeros do not count."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
