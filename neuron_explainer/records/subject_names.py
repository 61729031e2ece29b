"""Names of one subject and of one site that are written in several ways."""

from __future__ import annotations

_SUBJECTS = (
    ("gpt2", "gpt2-small", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
)
_SITES = (("mlp_post_act", "mlp.hook_post", "blocks.{layer}.mlp.hook_post"),)
_SUBJECT_OF = {name: names[0] for names in _SUBJECTS for name in names}
_SITE_OF = {name: names[0] for names in _SITES for name in names}


def is_same_subject(one: str, other: str) -> bool:
    """`gpt2`, `gpt2-small` and `openai-community/gpt2` are one model."""
    return _plain(one, _SUBJECT_OF) == _plain(other, _SUBJECT_OF)


def is_same_site(one: str, other: str) -> bool:
    """`mlp_post_act` and `blocks.{layer}.mlp.hook_post` are one place."""
    return _plain(one, _SITE_OF) == _plain(other, _SITE_OF)


def _plain(name: str, plain_of: dict[str, str]) -> str:
    name = name.strip()
    return plain_of.get(name.lower(), name)
