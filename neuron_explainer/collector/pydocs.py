"""English text that is already on the machine: documentation of Python and of installed packages.

Docstrings are read from the source with `ast`, so no module is imported. One document is one
module: its docstrings in source order, joined by blank lines. Python's help topics are one
document each. A docstring seen in an earlier module is left out.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import logging
import os
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from neuron_explainer.collector.documents import Document, mixing_key, valid_unicode, with_text

logger = logging.getLogger(__name__)

PACKAGES = ("numpy", "scipy", "pandas", "torch", "transformers", "sympy", "networkx")
"""Read beside the standard library: what this package itself needs and that is rich in prose."""

MAX_FILES_PER_PACKAGE = 160
"""Modules read of each package, drawn by `mixing_key`; parsing all takes half a minute."""

MIN_CHARS = 200
"""A module with less text than this is left out."""

MIN_LETTER_SHARE = 0.6
"""Of a docstring's characters other than white space, this share must be English letters."""

_RULES = f"1 {MAX_FILES_PER_PACKAGE} {MIN_CHARS} {MIN_LETTER_SHARE}"

_TOPICS = "pydoc_data/topics.py"

_TESTS = {"test", "tests", "testing"}
_VENDORED = {"_vendor", "vendor", "vendored", "_vendored", "extern", "_extern", "external"}
_VENDORED |= {"externals", "third_party"}
_NOT_THE_PACKAGE = {"__pycache__", "include", "site-packages", "dist-packages"}
_TABLES_AND_APPLICATIONS = {"encodings", "idlelib", "lib2to3", "turtledemo"}  # of Python's own
_LEFT_OUT_FOLDERS = _TESTS | _VENDORED | _NOT_THE_PACKAGE | _TABLES_AND_APPLICATIONS

_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WHITE_SPACE = b" \t\n\r\v\f"


class PydocsCorpus:
    """The documentation on this machine, in an order that mixes all packages.

    `roots`: name prefix -> folder, "" for the standard library; by default those installed.
    Neither texts nor order depend on where the folders are.
    """

    def __init__(self, roots: Mapping[str, Path] | None = None) -> None:
        self.name = "pydocs"
        self._roots = roots

    def documents(self) -> Iterator[Document]:
        """One document a module or help topic; the first ones come before the rest is read."""
        return with_text(self.name, self._documents())

    def content_hash(self) -> str:
        """Hash of the sources that are read, of the rules, and of the Python that parses them."""
        major, minor = sys.version_info[:2]
        digest = hashlib.blake2b(f"{_RULES} {major}.{minor}".encode(), digest_size=32)
        for name, path in sorted(self._modules.items()):
            source = _read_bytes(path)
            digest.update(f"\n{name} {len(source)}\n".encode() + source)
        return digest.hexdigest()

    @cached_property
    def _modules(self) -> dict[str, Path]:
        """Name -> file, of every module that is read, and of the help topics."""
        roots = installed_roots() if self._roots is None else self._roots
        modules: dict[str, Path] = {}
        for prefix, root in sorted(roots.items()):
            files = {f"{prefix}/{file}" if prefix else file: file for file in _sources(root)}
            chosen = sorted(files, key=mixing_key)[:MAX_FILES_PER_PACKAGE]
            chosen += [name for name in (_TOPICS,) if name in files and name not in chosen]
            modules |= {name: root / files[name] for name in chosen}
        return modules

    def _documents(self) -> Iterator[Document]:
        modules = dict(self._modules)
        topics = _help_topics(modules.pop(_TOPICS, None))
        left_out: Counter[str] = Counter()
        seen: set[bytes] = set()
        for name in sorted([*modules, *topics], key=mixing_key):
            if name in topics:
                docstrings: Iterable[str] = [topics[name]]
            elif (tree := _parse(modules[name])) is not None:
                docstrings = _docstrings(tree)
            else:
                left_out["files that do not parse"] += 1
                continue
            text = "\n\n".join(_new_prose(docstrings, seen, left_out))
            if len(text) >= MIN_CHARS:
                yield Document(name, text)
            else:
                left_out["modules with too little text"] += 1
        if left_out:
            counts = ", ".join(f"{n} {what}" for what, n in left_out.items())
            logger.info("pydocs left out: %s", counts)


def installed_roots() -> dict[str, Path]:
    """The folders of the standard library and of those of PACKAGES that are installed."""
    roots = {"": Path(sysconfig.get_path("stdlib"))}
    for package in PACKAGES:
        # For a top-level name this looks the package up without importing it.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            roots[package] = Path(spec.origin).parent
    missing = [package for package in PACKAGES if package not in roots]
    if missing:
        logger.warning("pydocs: not installed, so not part of the text: %s", ", ".join(missing))
    return roots


def _sources(root: Path) -> Iterator[str]:
    """Python files under `root`, without tests and vendored copies: "package/module.py"."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT_FOLDERS]
        inside = "".join(f"{part}/" for part in Path(folder).relative_to(root).parts)
        for name in files:
            if name.endswith(".py") and not _is_test(name):
                yield inside + name


def _is_test(file_name: str) -> bool:
    return file_name.startswith("test_") or file_name.endswith(("_test.py", "conftest.py"))


def _read_bytes(path: Path) -> bytes:
    """What the file holds; nothing when it cannot be read, as `_parse` then leaves it out."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parse(path: Path) -> ast.Module | None:
    """The file's syntax tree; None when it is not Python, or not readable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in other people's strings
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _docstrings(tree: ast.AST) -> Iterator[str]:
    """Cleaned docstrings of the module, its classes and its functions, in source order."""
    if isinstance(tree, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        docstring = ast.get_docstring(tree, clean=False)
        if docstring:
            yield valid_unicode(inspect.cleandoc(docstring).strip())
    for block in ("body", "handlers", "orelse", "finalbody"):
        for statement in getattr(tree, block, ()):
            if "body" in statement._fields:
                yield from _docstrings(statement)


def _help_topics(path: Path | None) -> dict[str, str]:
    """Topic's document name -> text, from the `topics = {...}` of Python's own help."""
    tree = _parse(path) if path is not None else None
    for statement in tree.body if tree is not None else ():
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(statement.value)
            return {f"{_TOPICS}:{topic}": text.strip() for topic, text in topics.items()}
    return {}


def _new_prose(
    docstrings: Iterable[str], seen: set[bytes], left_out: Counter[str]
) -> Iterator[str]:
    """The docstrings that are prose and not yet in `seen` (digests), which it adds to."""
    for docstring in docstrings:
        digest = hashlib.blake2b(docstring.encode(), digest_size=16).digest()
        if digest in seen:
            left_out["repeated docstrings"] += 1
        elif not _is_prose(docstring):
            left_out["docstrings that are not prose"] += 1
        else:
            yield docstring
        seen.add(digest)


def _is_prose(text: str) -> bool:
    dense = text.encode().translate(None, _WHITE_SPACE)
    n_letters = len(dense) - len(dense.translate(None, _LETTERS))
    return n_letters >= MIN_LETTER_SHARE * max(1, len(dense))
