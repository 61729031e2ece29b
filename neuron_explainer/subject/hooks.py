"""Reading activations out of a forward pass that stops as soon as the last one is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class _Stop(BaseException):
    """Ends a forward pass. Not an Exception: no handler in the model may swallow it."""


@contextmanager
def reading_inputs(
    modules: Mapping[int, nn.Module],
    receive: Callable[[int, Tensor], None],
    *,
    stop_after: int | None = None,
) -> Iterator[None]:
    """While open, each module's input goes to `receive(key, input)` before the module runs.

    With `stop_after`, the forward pass ends once that key's input was received: the module
    itself, and everything behind it, is not computed. Hooks are removed on every way out.
    """

    def hook_for(key: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
            receive(key, arguments[0])
            if key == stop_after:
                raise _Stop

        return hook

    handles = []
    try:
        for key, module in modules.items():
            handles.append(module.register_forward_pre_hook(hook_for(key)))
        yield
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
