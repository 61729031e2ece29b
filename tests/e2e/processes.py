"""Processes of their own that begin with all libraries imported, which would take most of a test.

A fork server imports them once. What a process does is a function of a module, as in any `spawn`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from neuron_explainer.__main__ import main

LIBRARIES = ["neuron_explainer.cli", "neuron_explainer.pipeline.run", "transformers.models.gpt2"]
TIMEOUT_S = 300

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LIBRARIES)


class Done(NamedTuple):
    """What a process came to."""

    returncode: int
    """-9: killed by SIGKILL, and so on."""
    stdout: str
    stderr: str


def start(
    function: Callable[..., object], *arguments: Any, out: str = os.devnull, err: str = os.devnull
) -> BaseProcess:
    """A function of a module of the tests or of the package, with arguments that pickle.

    out, err: files for what it prints.
    """
    process = _context.Process(
        target=_with_output, args=(out, err, function, arguments), daemon=True
    )
    process.start()
    return process


def run_to_its_end(function: Callable[..., object], *arguments: Any) -> Done:
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(function, *arguments, out=str(out), err=str(err))
        process.join(TIMEOUT_S)
        returncode = process.exitcode
        process.kill()
        process.join()
        process.close()
        assert returncode is not None, f"not done within {TIMEOUT_S} s"
        return Done(returncode, out.read_text("utf-8"), err.read_text("utf-8"))


def neuron_explainer(*arguments: str, cwd: Path) -> Done:
    """The command line."""
    return run_to_its_end(command_line, arguments, str(cwd))


def command_line(arguments: tuple[str, ...], cwd: str) -> None:
    """In a process of its own."""
    os.chdir(cwd)
    sys.argv = ["neuron-explainer", *arguments]
    main()


def _with_output(out: str, err: str, function: Callable[..., object], arguments: Any) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    function(*arguments)
