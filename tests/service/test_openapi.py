"""The description is true: its schemas are those of the documents, its examples work."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from poet_core.devices import device_names
from poet_service.openapi import EXAMPLES, FRONTIER_EXAMPLES
from poet_service.openapi.schemas import components
from poet_service.settings import Settings

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
# The service's own limits are narrower than those of a document on disk.
LIMITS = ("maxItems",)


def without(schema, names):
    """A schema less keywords; members of that name stay."""
    if isinstance(schema, list):
        return [without(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without(item, names) for name, item in value.items()}
        if key == "properties"
        else without(value, names)
        for key, value in schema.items()
        if key not in names
    }


def sorted_lists(schema):
    if isinstance(schema, list):
        return sorted((sorted_lists(item) for item in schema), key=json.dumps)
    if isinstance(schema, dict):
        return {key: sorted_lists(value) for key, value in schema.items()}
    return schema


@pytest.mark.parametrize("name", ["Graph", "Device", "Plan"])
def test_the_documents_have_the_schemas_of_docs(name):
    stated = json.loads((SCHEMAS / f"poet.{name.lower()}-1.json").read_text())
    words = ("$schema", "$id", "title", "description", *LIMITS)
    ours = without(components(Settings())[name], words)
    assert sorted_lists(ours) == sorted_lists(without(stated, words))


@pytest.fixture
def description(client):
    return client.get("/openapi.json").json()


def test_the_description_names_every_route(description):
    operations = {(method, path) for path, item in description["paths"].items() for method in item}
    jobs = "/v1/plans/{job_id}"
    frontier = "/v1/frontiers/{job_id}"
    assert operations == {
        ("post", "/v1/plans"), ("get", "/v1/plans"), ("get", jobs), ("delete", jobs),
        ("get", f"{jobs}/events"), ("get", f"{jobs}/plan"), ("get", f"{jobs}/log"),
        ("post", "/v1/plans:validate"), ("post", "/v1/plans:verify"),
        ("post", "/v1/frontiers"), ("get", frontier), ("delete", frontier),
        ("get", f"{frontier}/events"), ("get", f"{frontier}/plans/{{ram_bytes}}"),
        ("get", "/v1/devices"), ("get", "/v1/devices/{name}"), ("post", "/v1/devices:validate"),
        ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
    }  # fmt: skip
    names = [
        item["operationId"] for path in description["paths"].values() for item in path.values()
    ]
    assert len(set(names)) == len(names)


def references(value):
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [name for item in value.values() for name in references(item)]
    return [name for item in value for name in references(item)] if isinstance(value, list) else []


def test_every_name_in_the_description_is_there(description):
    schemas = description["components"]["schemas"]
    for name in references(description):
        assert name.removeprefix("#/components/schemas/") in schemas
    ids = {item["operationId"] for path in description["paths"].values() for item in path.values()}
    for path in description["paths"].values():
        for operation in path.values():
            for reply in operation["responses"].values():
                for link in reply.get("links", {}).values():
                    assert link["operationId"] in ids
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def validator(description, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_what_it_says_and_its_answers_too(client, description, name):
    body = EXAMPLES[name]["value"]
    validator(description, "PlanRequest").validate(body)
    body = body | {"budget": {"ram_bytes": 32768}}  # these executors keep everything
    view = client.post("/v1/plans?wait=20", json=body).json()
    assert view["state"] == "finished"
    validator(description, "PlanJob").validate(view)
    validator(description, "Plan").validate(view["plan"])
    path = view["links"]["self"]
    validator(description, "Log").validate(client.get(f"{path}/log").json())
    validator(description, "JobList").validate(client.get("/v1/plans").json())
    verify = body | {"plan": view["plan"]}
    validator(description, "VerifyRequest").validate(verify)
    verdict = client.post("/v1/plans:verify", json=verify).json()
    validator(description, "Verdict").validate(verdict)
    known = client.post("/v1/plans:validate", json=body).json()
    validator(description, "Examination").validate(known)
    problem = client.post("/v1/plans", json=body | {"budget": {"ram_bytes": 1}}).json()
    validator(description, "Problem").validate(problem)


@pytest.mark.parametrize("name", FRONTIER_EXAMPLES)
def test_every_frontier_example_too(make_client, held, description, name):
    body = FRONTIER_EXAMPLES[name]["value"]
    validator(description, "FrontierRequest").validate(body)
    posted = make_client(held).post("/v1/frontiers", json=body)
    assert posted.status_code == 202
    validator(description, "FrontierJob").validate(posted.json())


def test_the_devices_are_as_described(client, description):
    validator(description, "Devices").validate(client.get("/v1/devices").json())
    for name in device_names():
        validator(description, "Device").validate(client.get(f"/v1/devices/{name}").json())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_unknown_member_is_none_of_a_request(description, name):
    check = validator(description, "PlanRequest")
    body = EXAMPLES[name]["value"]
    assert check.is_valid(body | {"x": {"anything": 1}})
    assert not check.is_valid(body | {"y": 1})
    assert not check.is_valid(body | {"budget": {"ram_bytes": 0}})
    both = {"ram_bytes": 1, "time_ratio": 2, "step_seconds": 1}
    assert not check.is_valid(body | {"budget": both})
