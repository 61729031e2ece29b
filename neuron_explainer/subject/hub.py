"""Whether the model hub can be reached: without it, what was fetched before is read at once.

The hub's own client would try every file six times, half a minute long, before it looks.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from neuron_explainer.errors import SubjectError

logger = logging.getLogger(__name__)


def is_here_alone(name: str) -> bool:
    """Whether the files of a model can come from this machine only: a folder, or no hub."""
    return Path(name).expanduser().is_dir() or not _answers(constants.ENDPOINT)


def require_here(name: str) -> None:
    """SubjectError unless a model was fetched before, or is a folder; no hub is asked."""
    if Path(name).expanduser().is_dir():
        return
    found = None
    with suppress(HFValidationError):  # a folder that has gone
        found = try_to_load_from_cache(name, "config.json", cache_dir=constants.HF_HUB_CACHE)
    if not isinstance(found, str):
        raise SubjectError(
            f"{name} is not on this machine, and nothing is fetched here; run `hf download {name}` "
            "first"
        )


@cache
def _answers(endpoint: str) -> bool:
    """Asked once, as patiently as the client's own first try; any answer will do."""
    try:
        get_session().head(endpoint, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HTTPError, OfflineModeIsEnabled) as error:
        logger.info("%s does not answer (%s): models are read from this machine", endpoint, error)
        return False
    return True
