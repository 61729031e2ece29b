"""Pages have no style attribute: their policy names one style element by its hash."""

from __future__ import annotations

import base64
import hashlib
import re

from neuron_explainer.viewer.display import window_html
from neuron_explainer.viewer.environment import extract_styles
from tests.viewer.served_fakes import HOSTILE


def test_each_style_becomes_a_rule_of_the_one_element_that_the_hash_names() -> None:
    found = extract_styles(
        '<head><!-- styles --></head><i style="left:5%">a</i><b style="top:0">b</b>'
        '<u style="left:5%">c</u>'
    )
    assert " style=" not in found.html
    css = re.search("<style>(.*)</style>", found.html)
    assert css is not None
    assert css[1] == '[data-s="0"]{left:5%}[data-s="1"]{top:0}'
    assert found.html.count('data-s="0"') == 3
    digest = hashlib.sha256(css[1].encode()).digest()
    assert found.style_hash == f"sha256-{base64.b64encode(digest).decode()}"


def test_a_page_without_styles_has_no_element_and_no_hash() -> None:
    found = extract_styles("<head><!-- styles --></head><p>a</p>")
    assert found == ("<head></head><p>a</p>", None)


def test_text_that_looks_like_a_style_is_no_style() -> None:
    tokens = ('<i style="left:0">', '" style="x', *HOSTILE)
    html = str(window_html(tokens, [0.5] * len(tokens), 1.0))
    found = extract_styles(f"<!-- styles -->{html}")
    css = re.search("<style>(.*)</style>", found.html)
    assert css is not None
    assert css[1] == '[data-s="0"]{--a:.5}'
    assert "left:0" in found.html
    assert "&lt;i style=" in found.html
