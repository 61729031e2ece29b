"""Templates of the report and of the viewer, and pages without a style attribute in them.

The report is one file and sets positions and colours in style attributes. A page of the viewer has
a content security policy that allows none: each becomes a rule of one style element, which the
policy names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from neuron_explainer.viewer import display
from neuron_explainer.viewer.report_comparison import make_mover_card

_STYLE = re.compile(r' style="([^"<>]*)"')
_PLACE = "<!-- styles -->"
"""Where base.html.j2 has the style element."""


class Rendered(NamedTuple):
    """A page, and what its policy has to allow."""

    html: str
    style_hash: str | None
    """`sha256-…` of the style element; None: there is none."""


REPORT = "report.html.j2"
"""A file of its own, made in an environment with more filters (`report.py`)."""


@cache
def make_environment() -> Environment:
    """Everything is escaped, and a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("neuron_explainer.viewer"),
        auto_reload=False,  # templates of a package stay as they are: no look at their files
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        number=display.number,
        signed=display.signed,
        percent=display.percent,
        significant=display.significant,
        rarity=display.rarity,
        printable=display.printable,
        token_html=display.token_html,
        window_html=display.window_html,
        value_list=display.value_list,
        mover_card=make_mover_card,
    )
    return environment


def compile_templates() -> None:
    """All that a server needs, so that no page waits for its own."""
    environment = make_environment()
    for name in set(environment.list_templates()) - {REPORT}:
        environment.get_template(name)


def render_page(template: str, /, **context: object) -> Rendered:
    """A page that extends base.html.j2."""
    return extract_styles(make_environment().get_template(template).render(**context))


def render_fragment(template: str, /, **context: object) -> str:
    """A part of a page for a script to put into it: styles are in `data-style`, which it applies.

    A style element would need a policy of its own.
    """
    html = make_environment().get_template(template).render(**context)
    return _STYLE.sub(r' data-style="\1"', html)


def extract_styles(html: str) -> Rendered:
    """Text and values are escaped, so that a style attribute is one that a template wrote."""
    parts = _STYLE.split(html)  # every second one is a style
    rules = {style: number for number, style in enumerate(dict.fromkeys(parts[1::2]))}
    if not rules:
        return Rendered(html.replace(_PLACE, "", 1), None)
    attributes = {style: f' data-s="{number}"' for style, number in rules.items()}
    parts[1::2] = [attributes[style] for style in parts[1::2]]
    html = "".join(parts)
    css = "".join(f'[data-s="{number}"]{{{style}}}' for style, number in rules.items())
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return Rendered(html.replace(_PLACE, f"<style>{css}</style>", 1), f"sha256-{digest}")
