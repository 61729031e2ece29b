"""The client's benchmark counts what its own server sees, through the whole stack."""

from __future__ import annotations

import pytest

from jobs.benchmark_client import in_fresh_process, measure, most_in_a_minute


def test_so_many_requests_are_sent_once_each() -> None:
    run = measure(10**6, n_requests=132)
    assert run.n_requests == run.most_in_a_minute == 132
    assert run.cpu_ms_a_request > 0


def test_a_run_for_some_time_keeps_to_the_rate_limit() -> None:
    run = in_fresh_process(3000, minutes=1 / 30)
    assert 0.5 < run.utilisation < 1.5  # a slice of 30 may go out at once
    assert run.most_in_a_minute == run.n_requests
    assert run.peak_memory_mb > 10


@pytest.mark.parametrize(
    ("arrivals", "most"),
    [([], 0), ([0.0, 59.9, 60.0], 2), ([0.0, 1.0, 2.0, 100.0], 3)],
)
def test_the_fullest_minute_is_found_wherever_it_begins(arrivals: list[float], most: int) -> None:
    assert most_in_a_minute(arrivals) == most
