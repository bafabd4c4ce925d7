"""How many samples a percentile needs: MLPerf's early stopping, from the binomial distribution.

A run tells a percentile p as its samples have it, and as a latency that p is below with a stated confidence. For the
latter suppose a system of which exactly the share 1 - p of the queries is slower than some bound. Of n queries it shows
at most t slow ones; t is the largest number for which that happens with a probability of at most 1 - confidence. The
t-th largest sample is then above p with that confidence.

Source: MLPerf Inference Rules (github.com/mlcommons/inference_policies, inference_rules.adoc), appendix "Early
Stopping Criterion", with its tolerance d = 0 and confidence c = 0.99.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowpose.bench.records import Percentile, samples_needed
from flowpose.errors import FlowposeError

CONFIDENCE = 0.99


def at_most(count: int, n: int, share: float) -> float:
    """Returns the probability of at most `count` successes in n trials that succeed with probability `share`.

    This is the regularised incomplete beta function I(1 - share; n - count, count + 1); here the terms are summed.
    """
    return float(np.exp(np.logaddexp.reduce(_log_terms(count, n, share))))


def overlatency_allowed(n: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Returns t of the rules' appendix: how many of n queries may be slower than a bound of the percentile.

    0 where n is too small: the rules then go on until it is 1.

    Args:
        n: queries.
        percentile: 0..100, such as 90.
        confidence: that the bound holds, 0..1.
    """
    slow = _slow(percentile)
    most = min(n, math.ceil(n * slow))  # there the probability is one half or so: the answer lies below
    sums = np.logaddexp.accumulate(_log_terms(most, n, slow))
    return max(0, int(np.searchsorted(sums, math.log1p(-confidence), side="right")) - 1)


def queries_needed(percentile: float, overlatency: int = 1, confidence: float = CONFIDENCE) -> int:
    """Returns the fewest queries of which `overlatency` may be slower than a bound of the percentile.

    With one, the least, a bound can be told at all: 64 queries for the 90th percentile, 662 for the 99th.
    """
    slow, low, high = _slow(percentile), overlatency, overlatency + 1
    while at_most(overlatency, high, slow) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at_most(overlatency, middle, slow) <= 1 - confidence else (middle, high)
    return high


def percentile(ms: Sequence[float], share: float, confidence: float = CONFIDENCE) -> Percentile:
    """Returns a percentile of durations: as they are, and as a bound that holds with the confidence.

    The bound is the t-th largest duration, t of `overlatency_allowed`: the rules discard the t - 1 highest.

    Args:
        ms: durations, milliseconds.
        share: 0..100, such as 99.
        confidence: of the bound, 0..1.

    Raises:
        FlowposeError: no durations.
    """
    if not len(ms):
        raise FlowposeError("percentile", "no durations", got=0, expected="at least one")
    n, allowed = len(ms), overlatency_allowed(len(ms), share, confidence)
    return Percentile(
        share=share,
        n=n,
        raw=float(np.percentile(ms, share)) if n >= samples_needed(share) else None,
        raw_needs=samples_needed(share),
        bound=float(np.sort(ms)[n - allowed]) if allowed else None,
        bound_needs=queries_needed(share, confidence=confidence),
        confidence=confidence,
    )


def _slow(percentile: float) -> float:
    if not 0 < percentile < 100:
        raise FlowposeError("percentile", "not a percentile", got=percentile, expected="between 0 and 100")
    return 1 - percentile / 100


def _log_terms(most: int, n: int, share: float) -> NDArray[np.float64]:
    """Logarithms of the probabilities of 0, 1, ..., `most` successes in n trials."""
    count = np.arange(most)
    ratios = np.log((n - count) / (count + 1)) + math.log(share) - math.log1p(-share)
    return np.concatenate(([0.0], np.cumsum(ratios))) + n * math.log1p(-share)
