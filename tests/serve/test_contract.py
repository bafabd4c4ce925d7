"""The API against its own description: schemathesis sends what /openapi.json allows and forbids, and reads answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serve.running import CLIENT, Running, running

from flowpose.runtime import Model
from flowpose.serve.settings import Limits, Place

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

TOKEN = "a-token-for-the-contract"
EXAMPLES = 10
HEALTH = list(HealthCheck)
OPERATIONS = (
    ("GET", "/health"), ("GET", "/model"), ("GET", "/metrics"), ("GET", "/motions/sample"), ("POST", "/infer"),
    ("POST", "/motions"),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tiny: Model) -> Iterator[Running]:
    limits = Limits(photo_mb=1, poses_mb=0.5)
    with running(tiny, Place(port=0, token=TOKEN), limits) as found:
        yield found


@pytest.fixture(scope="module")
def described(server: Running) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*each, GenerationMode.POSITIVE) for each in OPERATIONS]
    + [(*each, GenerationMode.NEGATIVE) for each in OPERATIONS if each[0] == "POST"],
)
def test_every_answer_is_one_that_the_description_names(
    described: Any, method: str, path: str, mode: Any
) -> None:
    """All checks, but that a schema-valid file is accepted: bytes that a schema calls a file are mostly no picture."""
    excluded = [positive_data_acceptance] if method == "POST" else []
    answers: set[int] = set()

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=HEALTH
    )
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.headers["Authorization"] = f"Bearer {TOKEN}"
        answers.add(case.call_and_validate(excluded_checks=excluded).status_code)

    ask()
    assert answers <= ({200} if method == "GET" else {400, 401, 413, 415, 422})


def test_the_description_names_every_path_and_its_errors(server: Running) -> None:
    told = CLIENT.get(f"{server.url}/openapi.json").json()
    assert {(method.upper(), path) for path, methods in told["paths"].items() for method in methods} == set(
        OPERATIONS
    )
    for path, methods in told["paths"].items():
        for operation in methods.values():
            statuses = set(operation["responses"])
            assert statuses >= {"200", "403", "408", "413", "421"}
            assert ("401" in statuses) == ("security" in operation) == (path != "/health")
