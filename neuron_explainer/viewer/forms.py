"""Forms as browsers send them, which takes no script: names with their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from neuron_explainer.errors import UsageError

FORM = "application/x-www-form-urlencoded"
MOST_BYTES = 300_000
"""Of a form: the longest text with every byte written as `%E4`."""
MOST_FIELDS = 20
T = TypeVar("T")


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").split(";")[0].strip() == FORM


async def read_form(request: Request) -> dict[str, str]:
    """The last value of a name; UsageError for what no form of the viewer's sends."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise UsageError(f"the form has more than {MOST_BYTES:,} bytes; write less")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError as error:
        raise UsageError("the form cannot be read; send it from the viewer's page") from error
    return dict(pairs)


def parse_form(kind: type[T], fields: Mapping[str, str]) -> T:
    """UsageError for a value that is not of the kind."""
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        said = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, said['loc']))}: {said['msg']}") from error
