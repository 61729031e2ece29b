"""What the pages of the viewer share: where they link to, and what stands above their content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from neuron_explainer.viewer.links import Links


class Entry(NamedTuple):
    """A link of the navigation."""

    name: str
    address: str
    is_here: bool = False
    key: str = ""
    """On the keyboard; empty: none."""


@dataclass(frozen=True, slots=True)
class Site:
    """What base.html.j2 reads."""

    title: str
    """Of the source."""
    links: Links
    nav: Sequence[Entry]
    sources: Sequence[Entry] = ()
    """Home of each; shown where there is more than one."""
    notice: str | None = None
    """A sentence that must not be missed, such as that not all is indexed yet."""
    is_served: bool = True
    """False: a site of files, where nothing can be asked of a server."""
