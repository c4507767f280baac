"""The document and the service agree: what it says is taken is taken, and what is answered it says."""

import json
from dataclasses import replace

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance

from orchestrion.tracks.request import SAMPLE_RATES_HZ, AudioFormat
from orchestrion.tracks.spec import TrackSpec
from serve_app.openapi import request_examples
from tests.fake_model import ToneModel
from tests.ingress_app import Service

OPERATIONS = [
    *(
        ("GET", path)
        for path in (
            "/v1/tracks/{track_id}",
            "/v1/tracks/{track_id}/audio",
            "/v1/tracks/{track_id}/midi",
            "/v1/tracks/{track_id}/provenance",
            "/v1/models",
            "/v1/styles",
            "/healthz",
            "/readyz",
            "/openapi.json",
        )
    ),
    ("POST", "/v1/tracks"),
    ("POST", "/v1/tracks/stream"),
    ("POST", "/v1/themes"),
    ("POST", "/v1/intent"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    # The name that schemathesis asks by.
    # Generated prompts may be words that steer the model: generators know the constants of the code around them.
    return Service(tmp_path_factory.mktemp("service"), ToneModel(steered=False), allowed_hosts="testserver")


@pytest.fixture(scope="module")
def schema(service):
    return schemathesis.openapi.from_asgi("/openapi.json", service.app)


def test_every_operation_is_tried(schema):
    documented = {
        (method.upper(), path) for path, operations in schema.raw_schema["paths"].items() for method in operations
    }

    assert documented == {*OPERATIONS, *(("HEAD", path) for method, path in OPERATIONS if method == "GET")}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("method, path", OPERATIONS, ids=lambda value: value)
def test_whatever_the_document_allows_or_not_is_answered_as_it_says(schema, method, path, mode):
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and not operation.query and path != "/v1/tracks":
        return  # Every path is text, and every file is bytes: nothing of the wrong form can be made.

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def answered_as_documented(case):
        # A schema cannot say that fades must fit into a track, or which words are styles: that may be refused.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    answered_as_documented()


def test_every_answer_has_an_example_or_is_binary(schema):
    text = json.dumps(schema.raw_schema)

    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schema.raw_schema["components"]["schemas"]
    for path, operations in schema.raw_schema["paths"].items():
        for method, operation in operations.items():
            success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            shown = json.dumps([success, operation.get("requestBody")])
            assert method == "head" or "example" in shown or "binary" in shown, (method, path)


def test_the_examples_are_requests_that_this_service_can_make(service):
    examples = service.get("/openapi.json").json()["paths"]["/v1/tracks"]["post"]["requestBody"]["content"][
        "application/json"
    ]["examples"]

    # Others are shown as far as the model follows their fields.
    assert {"words", "fields", "theme"} <= set(examples) and "continuation" not in examples
    for example in examples.values():
        answer = service.post("/v1/tracks", json={**example["value"], "duration_s": 2, "fade_out_s": 0})
        # The uploads that they name are not there.
        assert answer.status_code in (201, 404), answer.text


def test_the_examples_name_models_that_are_loaded():
    composer = replace(ToneModel("composer").info, controls=("theme",))
    musicgen = replace(
        ToneModel("musicgen", commercial_use=False).info,
        controls=("continuation", "guidance", "temperature"),
        max_duration_s=20.0,
    )

    examples = request_examples([composer, musicgen])

    assert "model" not in examples["theme"]["value"]
    assert examples["continuation"]["value"]["model"] == "musicgen"
    assert "players" not in examples
    assert examples["continuation"]["value"]["purpose"] == "research"
    assert examples["continuation"]["value"]["duration_s"] == 20
    assert set(request_examples([])) == {"words", "fields"}
    for example in examples.values():
        TrackSpec.from_json(example["value"]).resolve()


def test_the_values_of_format_and_sample_rate_are_listed(schema):
    stream = schema.raw_schema["paths"]["/v1/tracks/stream"]["post"]
    (query,) = [parameter for parameter in stream["parameters"] if parameter["name"] == "format"]
    rates = schema.raw_schema["components"]["schemas"]["TrackSpec"]["properties"]["sample_rate_hz"]

    assert query["schema"]["enum"] == [*AudioFormat, "pcm"]
    assert {rate for taken in SAMPLE_RATES_HZ.values() for rate in taken} == set(rates["anyOf"][0]["enum"])
    assert "opus 8000, 12000, 16000, 24000, 48000" in rates["description"]
