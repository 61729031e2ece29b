"""Whether the model hub can be reached: without it, what was fetched before is read at once.

The hub's own client would try every file six times, half a minute long, before it looks.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import constants, get_session
from huggingface_hub.errors import OfflineModeIsEnabled

logger = logging.getLogger(__name__)


def is_here_alone(name: str) -> bool:
    """Whether the files of a model can come from this machine only: a folder, or no hub."""
    return Path(name).expanduser().is_dir() or not _answers(constants.ENDPOINT)


@cache
def _answers(endpoint: str) -> bool:
    """Asked once, as patiently as the client's own first try; any answer will do."""
    try:
        get_session().head(endpoint, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HTTPError, OfflineModeIsEnabled) as error:
        logger.info("%s does not answer (%s): models are read from this machine", endpoint, error)
        return False
    return True
