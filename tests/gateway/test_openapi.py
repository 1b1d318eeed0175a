"""Requests drawn from the published OpenAPI document, and near it: whatever they are, none makes the gateway fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from cascade.emulator import Emulator
from cascade.gateway.openapi import document
from cascade.gateway.settings import GatewaySettings
from tests.emulator.conftest import CORPUS
from tests.gateway.serving import Gateway, policy_file

SCHEMA = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before an emulator that answers everything."""
    folder = tmp_path_factory.mktemp("openapi")
    with pytest.MonkeyPatch.context() as patched, Emulator(CORPUS, canned=True) as emulator:
        patched.setenv("ANTHROPIC_API_KEY", "k")
        options = {"policies": (str(policy_file(folder)),), "ledger": str(folder / "ledger.db")}
        with Gateway(GatewaySettings(upstream=emulator.base_url, port=0, **options)) as running:
            yield running


@SCHEMA.parametrize()
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_no_request_makes_it_fail(case: schemathesis.Case, gateway: Gateway) -> None:
    """No 5xx, no status that the document does not list, no body of another shape."""
    for model in (None, "claude-cascade-small"):
        if model is not None:
            if not isinstance(case.body, dict) or "model" not in case.body:
                return
            case.body["model"] = model  # the same request, which now climbs
        case.call_and_validate(
            base_url=gateway.base_url,
            checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
            headers={"anthropic-version": "2023-06-01"},
        )
