"""The page is written again while units come, and never for more than a share of the time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from neuron_explainer.pipeline.events import StageStarted, UnitExplained
from neuron_explainer.pipeline.refreshing import EVERY_S, MAX_SHARE, Refreshing
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from tests.fakes import FakeListener

UNIT = UnitExplained(UnitResult(NeuronId(0, 0), "e", None, "dead unit", {}, None, None))


class Clock:
    """Stands still but for what is put on it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def write_for(hours: float, writing_s: float) -> list[float]:
    """When the page is begun, a unit being explained every second; in seconds from the start."""
    clock, begun = Clock(), []

    def write() -> None:
        begun.append(clock.now_s - 100)
        clock.now_s += writing_s

    refreshing = Refreshing(write, lambda _: None, clock)
    while clock.now_s - 100 < 3600 * hours:
        clock.now_s += 1
        refreshing(UNIT)
    return begun


def test_a_page_that_is_written_at_once_is_written_at_its_interval() -> None:
    begun = write_for(hours=0.5, writing_s=0.01)
    assert len(begun) == pytest.approx(1800 / EVERY_S, rel=0.1)
    assert min(later - one for one, later in pairwise(begun)) >= EVERY_S


@pytest.mark.parametrize("writing_s", [3.0, 60.0])
def test_writing_takes_no_more_than_its_share_of_the_time(writing_s: float) -> None:
    begun = write_for(hours=5, writing_s=writing_s)
    assert len(begun) >= 5
    assert writing_s * (len(begun) - 1) <= MAX_SHARE * begun[-1]


def test_every_event_is_passed_on_and_units_alone_have_the_page_written() -> None:
    clock, listener, written = Clock(), FakeListener(), []
    refreshing = Refreshing(lambda: written.append(len(listener.events)), listener, clock)
    clock.now_s += EVERY_S
    events = (StageStarted("explain", 3, "neurons"), UNIT, UNIT)
    for event in events:
        refreshing(event)
    assert listener.events == list(events)
    assert written == [2]  # after the first unit was passed on
