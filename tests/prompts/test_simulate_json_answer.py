"""What is read from an answer in JSON, or in what a model takes for JSON."""

from __future__ import annotations

import json
import random

import pytest

from neuron_explainer.errors import ParseError
from neuron_explainer.prompts.simulate_json_answer import parse_activations
from tests.simulators.examples import NASTY

TOKENS = ("a", " b", "c")


def entries(*found: tuple[object, object, object]) -> str:
    names = ("n", "token", "activation")
    return json.dumps({"activations": [dict(zip(names, one, strict=True)) for one in found]})


ASKED = entries((1, "a", 1), (2, " b", 10), (3, "c", 3))
WHOLE = [1, 10, 3]
READABLE = {
    "as asked": (ASKED, WHOLE),
    "in a fence": (f"```json\n{ASKED}\n```", WHOLE),
    "words around": (f"Here are the [three] values {{n}}: {ASKED} Good luck!", WHOLE),
    "after thoughts": (f'<think>[1, 2, 3] {{"a": 4}}</think>{ASKED}', WHOLE),
    "spare commas": ('{"activations":[{"n":1,"token":"a","activation":1,},'
                     '{"n":2,"token":" b","activation":10},{"n":3,"token":"c","activation":3},],}',
                     WHOLE),
    "single quotes": (ASKED.replace('"', "'"), WHOLE),
    "Python's None": ("{'activations': [{'n': 1, 'token': 'a', 'activation': None}, "
                      "{'n': 2, 'token': ' b', 'activation': 2}]}", [None, 2, None]),
    "a bare list": ("[1, 10, 3]", WHOLE),
    "a list under another name": ('{"predictions": [1, 10, 3]}', WHOLE),
    "tokens and numbers side by side": ('{"tokens": ["1", "2", "3"], "activations": [1, 10, 3]}',
                                        WHOLE),
    "pairs": ('[["a", 1], [" b", 10], ["c", 3]]', WHOLE),
    "by number": ('{"1": 1, "2": 10, "3": 3}', WHOLE),
    "by number, one missing": ('{"activations": {"1": 1, "3": 3}}', [1, None, 3]),
    "by token": ('{"a": 1, "b": 10, "c": 3}', WHOLE),
    "a line each": ('{"n":1,"token":"a","activation":1}\n{"n":2,"token":"b","activation":10}\n'
                    '{"n":3,"token":"c","activation":3}', WHOLE),
    "numbers in quotes": (entries((1, "a", "1"), ("2", " b", "10"), (3, "c", " 3 ")), WHOLE),
    "fractions": (entries((1, "a", 0.5), (2, " b", 10.0), (3, "c", 3)), [0.5, 10, 3]),
    "the space is gone": (entries((1, "a", 1), (2, "b", 10), (3, "c", 3)), WHOLE),
    "no numbers": ('[{"token":"a","activation":1},{"token":" b","activation":10},'
                   '{"token":"c","activation":3}]', WHOLE),
    "no tokens": ('[{"n":1,"activation":1},{"n":2,"activation":10},{"n":3,"activation":3}]', WHOLE),
    "counted from 0": (entries((0, "a", 1), (1, " b", 10), (2, "c", 3)), WHOLE),
    "above ten": (entries((1, "a", 10.14), (2, " b", 11), (3, "c", 3)), [None, None, 3]),
    "below zero": (entries((1, "a", -1), (2, " b", 10), (3, "c", 3)), [None, 10, 3]),
    "no number at all": (entries((1, "a", "high"), (2, " b", True), (3, "c", None)), [None] * 3),
    "no finite number": ('{"activations": [1e999, NaN, 3]} [1e999, 2, 3]', [None, 2, 3]),
    "the first is missing": (entries((2, " b", 10), (3, "c", 3)), [None, 10, 3]),
    "the middle is missing": (entries((1, "a", 1), (3, "c", 3)), [1, None, 3]),
    "missing and counted on": (entries((1, "a", 1), (2, "c", 3)), [1, None, 3]),
    "one too many": (entries((1, "a", 1), (2, "and", 9), (3, " b", 10), (4, "c", 3)), WHOLE),
    "a token in two words": (entries((1, "a", 1), (2, " b'", 10), (3, "c", 3)), WHOLE),
    "one number twice": (entries((1, "a", 1), (1, "a", 2), (3, "c", 3)), [None, None, 3]),
    "cut off in an entry": (ASKED[: ASKED.index('"c"')], [1, 10, None]),
    "cut off in a number": (ASKED[: ASKED.index("10") + 1], [1, None, None]),
    "cut off in a token": (ASKED[: ASKED.index(' b"') + 2], [1, None, None]),
    "cut off after an entry": (ASKED[: ASKED.index("},") + 2], [1, None, None]),
    "an entry that is no JSON": (ASKED.replace('" b"', '"""'), [1, None, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read_is_used_and_the_rest_is_missing(name: str) -> None:
    text, expected = READABLE[name]
    assert parse_activations(text, TOKENS) == expected


UNREADABLE = {
    "empty": "",
    "a refusal": "I'm sorry, but I can't help with that.",
    "numbers in prose": "The first is 1, the second 10, the third 3.",
    "too few": "[1, 10]",
    "too many": "[1, 10, 3, 0]",
    "no entry": '{"activations": []}',
    "other tokens": entries((7, "x", 1), (8, "y", 2)),
    "the window and nothing else": '{"tokens": ["1", "2", "3"]}',
    "other form": '{"answer": "1, 10, 3"}',
    "cut off at once": '{"activations": [{"n": 1',
    "only thoughts": f"<think>{ASKED}",
    "lists in lists": "[" * 5000 + "1" + "]" * 5000,
    "brackets": "{[" * 5000,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_an_error_and_never_zeros(name: str) -> None:
    with pytest.raises(ParseError):
        parse_activations(UNREADABLE[name], TOKENS)


def test_the_error_says_how_many_there_were() -> None:
    with pytest.raises(ParseError, match="2 activations for 3 tokens"):
        parse_activations("[1, 10]", TOKENS)


def test_a_copy_of_any_window_is_read_whole() -> None:
    values = [i % 11 for i in range(len(NASTY))]
    both = zip(NASTY, values, strict=True)
    text = entries(*((i + 1, token, value) for i, (token, value) in enumerate(both)))
    assert parse_activations(text, NASTY) == values
    assert parse_activations(json.dumps(values), NASTY) == values


def test_an_entry_never_counts_for_another_token_than_its_own() -> None:
    """Entries are dropped, doubled, renumbered and mangled; each value names its token."""
    rng = random.Random(3)
    words = ["the", " cat", " sat", ",", " on", "\n"]
    for _ in range(300):
        tokens = [rng.choice(words) for _ in range(rng.randint(4, 10))]
        value_of = {word: i + 1 for i, word in enumerate(words)}
        found = [(i + 1, token, value_of[token]) for i, token in enumerate(tokens)]
        for _ in range(rng.randint(0, 3)):
            i = rng.randrange(len(found))
            match rng.randrange(3):
                case 0:
                    found.insert(i, found[i])
                case 1:
                    found.pop(i)
                case _:
                    found = [(n + (k >= i), t, a) for k, (n, t, a) in enumerate(found)]
            if not found:
                break
        try:
            expected = parse_activations(entries(*found), tokens)
        except ParseError:
            continue
        for token, value in zip(tokens, expected, strict=True):
            assert value in (None, value_of[token])
