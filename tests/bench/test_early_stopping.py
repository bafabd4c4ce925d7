"""MLPerf's early stopping: published figures, the definition by scipy's binomial, and what the bound promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from flowpose.bench.early_stopping import (
    at_most,
    overlatency_allowed,
    percentile,
    queries_needed,
    samples_needed,
)
from flowpose.errors import FlowposeError


@pytest.mark.parametrize(
    ("share", "n", "discarded"),
    [(90, 64, 0), (90, 100, 2), (90, 201, 9), (90, 659, 47), (90, 708, 51), (99, 662, 0), (99, 708, 0)],
)
def test_as_many_are_discarded_as_loadgen_says_in_published_logs(
    share: float, n: int, discarded: int
) -> None:
    """`Processed at least 64 queries (201). Would discard 9 highest latency queries.` and others like it."""
    assert overlatency_allowed(n, share) - 1 == discarded


def test_the_fewest_queries_are_those_that_loadgen_asks_for() -> None:
    assert queries_needed(90) == 64 and queries_needed(99) == 662
    assert overlatency_allowed(63, 90) == 0 == overlatency_allowed(661, 99)


@pytest.mark.parametrize("share", [50, 90, 97, 99, 99.9])
@pytest.mark.parametrize("n", [1, 7, 64, 100, 1000, 24576])
def test_allowed_is_the_definition(share: float, n: int) -> None:
    slow = 1 - share / 100
    allowed = overlatency_allowed(n, share)
    assert allowed == 0 or stats.binom.cdf(allowed, n, slow) <= 0.01
    assert stats.binom.cdf(allowed + 1, n, slow) > 0.01


@pytest.mark.parametrize(
    ("count", "n", "share"), [(0, 5, 0.1), (3, 20, 0.5), (10, 201, 0.1), (40, 5000, 0.01), (9, 9, 0.3)]
)
def test_the_sum_of_terms_is_the_incomplete_beta_function(count: int, n: int, share: float) -> None:
    beta = 1.0 if count == n else special.betainc(n - count, count + 1, 1 - share)
    assert at_most(count, n, share) == pytest.approx(beta, rel=1e-9)


@pytest.mark.parametrize("overlatency", [1, 2, 10, 100])
def test_needed_and_allowed_are_each_others_inverse(overlatency: int) -> None:
    n = queries_needed(95, overlatency)
    assert overlatency_allowed(n, 95) == overlatency and overlatency_allowed(n - 1, 95) == overlatency - 1


def test_the_bound_is_the_largest_that_is_left() -> None:
    ms = np.random.default_rng(0).permutation(np.arange(1.0, 202.0))
    found = percentile(ms, 90)
    assert found.bound == 201 - 9, "nine of 201 are discarded"
    assert found.raw == pytest.approx(181) and found.n == 201
    assert found.text == "181.00 ms; below 192.00 ms with 99% confidence"


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Of 2,000 runs of a system whose true 90th percentile is known, at most 1 % may lie below it."""
    rng = np.random.default_rng(0)
    true = -np.log(0.1)
    below = sum(percentile(rng.exponential(size=200), 90).bound < true for _ in range(2000))
    assert 0 < below / 2000 <= 0.01 + 2 * np.sqrt(0.01 * 0.99 / 2000)


def test_too_few_samples_are_said_and_no_number_is_given() -> None:
    found = percentile([5.0] * 40, 99)
    assert found.raw is None and found.bound is None
    raw, bound = "p99 (n = 40, needs 100)", "the bound of p99 (n = 40, needs 662)"
    assert found.text == f"not enough samples for {raw}; not enough samples for {bound}"
    some = percentile([5.0] * 100, 99)
    assert (
        some.raw == 5
        and some.bound is None
        and some.text.startswith("5.00 ms; not enough samples for the bound")
    )
    assert [samples_needed(share) for share in (50, 90, 95, 99, 99.9)] == [2, 10, 20, 100, 1000]


@pytest.mark.parametrize("share", [0, 100, -1])
def test_what_is_no_percentile_is_refused(share: float) -> None:
    with pytest.raises(FlowposeError, match="not a percentile"):
        overlatency_allowed(100, share)
    with pytest.raises(FlowposeError, match="no durations"):
        percentile([], 90)
