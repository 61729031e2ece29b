"""Expected activations from the probabilities of the tokens that could have been written.

Bills et al. 2023, `simulator.py`: of the alternatives keep those that are a number from 0 to 10,
renormalise, and take the mean. What is no such number says nothing about the activation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from neuron_explainer.llm.messages import TokenLogprobs
from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION

VALUE_OF_TEXT: Mapping[str, int] = {
    str(value): value for value in range(MAX_NORMALIZED_ACTIVATION + 1)
}
HALFWAY = 5.5
"""Between 1 and 10."""


def expected_value(written: Sequence[TokenLogprobs], index: int, lead: str = "") -> float | None:
    """Of the number that begins in the written token `index`, after its first characters `lead`.

    None: no alternative is a number from 0 to 10. White space around a number does not count.
    Where 10 is two tokens, `1` and `0`, the 1 that was written is 10 as often as a 0 is the next
    token: p(10) = p(1)·p(0|1). Of a 1 among the alternatives of another number nothing is known of
    what would have followed; where no alternative is a whole 10, it is taken for the one of the two
    that is nearer to the others' mean.
    """
    token = written[index]
    probabilities = _probabilities(_after_lead(_alternatives(token), lead))
    if token.token[len(lead) :].lstrip() == "1" and index + 1 < len(written):
        p_of_ten = probabilities[1] * _p_of_zero(written[index + 1])
        probabilities[1] -= p_of_ten
        probabilities[10] += p_of_ten
    elif 1 in probabilities and 10 not in probabilities:
        others = _mean({value: p for value, p in probabilities.items() if value != 1})
        if others is not None and others > HALFWAY:
            probabilities[10] = probabilities.pop(1)
    return _mean(probabilities)


def _p_of_zero(token: TokenLogprobs) -> float:
    """That the number goes on with a 0, and ends there."""
    alternatives = _alternatives(token)
    return sum(math.exp(p) for text, p in alternatives if text.partition("\n")[0] == "0")


def _alternatives(token: TokenLogprobs) -> tuple[tuple[str, float], ...]:
    """The most probable ones, and the one that was written, which need not be among them."""
    if any(text == token.token for text, _ in token.top):
        return token.top
    return (*token.top, (token.token, token.logprob))


def _after_lead(
    alternatives: Iterable[tuple[str, float]], lead: str
) -> Iterator[tuple[str, float]]:
    """What each alternative would write of the number's line; those that begin otherwise are out.

    A token may hold the tab before the number, or the end of the line and the next one's beginning.
    """
    for text, logprob in alternatives:
        if lead.isspace():  # another separator is as good, none at all is not
            fits, rest = text[:1].isspace(), text
        else:
            fits, rest = text.startswith(lead), text[len(lead) :]
        if fits:
            yield rest.lstrip(" \t").partition("\n")[0], logprob


def _probabilities(alternatives: Iterable[tuple[str, float]]) -> defaultdict[int, float]:
    """Value -> probability; spellings of one value, such as ` 3` and `3`, are added up."""
    probabilities: defaultdict[int, float] = defaultdict(float)
    for text, logprob in alternatives:
        value = VALUE_OF_TEXT.get(text.strip())
        if value is not None:
            probabilities[value] += math.exp(logprob)
    return probabilities


def _mean(probabilities: Mapping[int, float]) -> float | None:
    total = sum(probabilities.values())
    if total <= 0:
        return None
    return sum(value * p for value, p in probabilities.items()) / total
