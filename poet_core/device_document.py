"""`poet.device/1`: a DeviceProfile as TOML (files) or JSON (HTTP).

The fields are DeviceProfile's own names. Every one but `schema`, `name` and `title` is either a
plain value or `{value, source, estimate}`; shipped profiles give a source everywhere, a user's own
need not. `docs/schemas/poet.device-1.json` is the schema.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields as dataclass_fields
from typing import Any

from poet_core.device import DeviceProfile, Source
from poet_core.documents import DEFAULT_LIMITS, Limits, Node, parse_json, refuse
from poet_core.units import LARGEST_INTEGER

SCHEMA = "poet.device/1"

PROFILE_LIMITS = Limits(document_bytes=64 * 2**10, depth=4, storages=0, ops=0, references=0)
"""A profile is a page of text; nobody needs a larger one."""

_INTEGERS = frozenset({"ram_bytes", "flash_bytes", "alignment_bytes", "reserved_bytes"})
_BOOLEANS = frozenset({"overlap", "measured"})
_NUMBERS = frozenset(
    {"flops_per_second", "flops_per_joule", "page_in_latency_seconds", "page_in_bytes_per_second",
     "page_out_latency_seconds", "page_out_bytes_per_second", "flash_watts", "idle_watts",
     "memory_bytes_per_second"}
)  # fmt: skip
_TEXTS = frozenset({"name", "title"})
_OPTIONAL = frozenset(
    {"idle_watts", "memory_bytes_per_second", "flash_bytes", "alignment_bytes", "reserved_bytes",
     "overlap", "measured"}
)  # fmt: skip
_REQUIRED = ((_INTEGERS | _NUMBERS) - _OPTIONAL) | _TEXTS | {"schema"}
VALUE_FIELDS = tuple(
    item.name
    for item in dataclass_fields(DeviceProfile)
    if item.name in _INTEGERS | _BOOLEANS | _NUMBERS
)
"""The fields that carry a value with a source, in the order in which people read them."""


def device_to_document(device: DeviceProfile) -> dict[str, Any]:
    """The profile as a JSON value; a field with a source is written with it."""
    document: dict[str, Any] = {"schema": SCHEMA, "name": device.name, "title": device.title}
    for name in VALUE_FIELDS:
        value, source = getattr(device, name), device.sources.get(name)
        if value is None:
            continue
        document[name] = (
            value
            if source is None
            else {"value": value, "source": source.text, "estimate": source.estimate}
        )
    return document


def read_device(text: bytes | str, limits: Limits = PROFILE_LIMITS) -> DeviceProfile:
    """The profile in a JSON text. Raises DocumentError (the text) or DeviceError (a value)."""
    return device_from_document(parse_json(text, limits), limits)


def read_device_toml(text: bytes | str, limits: Limits = PROFILE_LIMITS) -> DeviceProfile:
    """The profile in a TOML text. Raises DocumentError (the text) or DeviceError (a value)."""
    return device_from_document(_parse_toml(text, limits), limits)


def device_from_document(
    document: Any, limits: Limits = DEFAULT_LIMITS, path: str = "$"
) -> DeviceProfile:
    """The profile of a JSON value."""
    fields = Node(document, path, limits).fields(_REQUIRED, _OPTIONAL)
    fields.check_schema(SCHEMA)
    values: dict[str, Any] = {name: fields[name].string() for name in sorted(_TEXTS)}
    sources: dict[str, Source] = {}
    for name in VALUE_FIELDS:
        # null is the same as nothing, and nothing will not do for these
        node = fields[name] if name in _REQUIRED else fields.get(name)
        if node is None:
            continue
        value, source = _value_and_source(node)
        values[name] = _read_value(name, value)
        if source is not None:
            sources[name] = source
    return DeviceProfile(**values, sources=sources)


def _value_and_source(node: Node) -> tuple[Node, Source | None]:
    if not isinstance(node.value, dict):
        return node, None
    fields = node.fields(frozenset({"value"}), frozenset({"source", "estimate"}))
    source, estimate = fields.get("source"), fields.get("estimate")
    return fields["value"], Source(
        text=source.string() if source else "",
        estimate=estimate.boolean() if estimate else False,
    )


def _read_value(name: str, node: Node) -> int | float | bool:
    if name in _BOOLEANS:
        return node.boolean()
    return node.integer() if name in _INTEGERS else node.number()


def _parse_toml(text: bytes | str, limits: Limits) -> Any:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > limits.document_bytes:
        refuse("$", f"at most {limits.document_bytes} bytes", f"{len(data)} bytes",
               code="document_too_large")  # fmt: skip
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        refuse("$", "UTF-8 text", f"other bytes at offset {error.start}", code="document_not_toml")
    except RecursionError:
        refuse("$", f"at most {limits.depth} levels of nesting", "more", code="document_too_deep")
    except ValueError as error:  # TOMLDecodeError, and integers too long for Python to convert
        where = str(error).rpartition(" (at ")[2].rstrip(")") or "an unknown place"
        refuse("$", "TOML", f"something else at {where}", code="document_not_toml")
    _check_json_values(document, "$", limits.depth)
    return document


def _check_json_values(value: Any, path: str, depth: int) -> None:
    """Hold a TOML value to what JSON has, so that one strict reader serves both."""
    if depth < 0:
        refuse(path, "less nesting", "more", code="document_too_deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_json_values(item, f"{path}.{key}", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json_values(item, f"{path}[{index}]", depth - 1)
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            refuse(path, "an integer of at most 2^53 - 1", "a larger one", code="out_of_range")
    elif not isinstance(value, str | float):
        refuse(path, "a number, a string, true or false", "a date or time", code="wrong_type")
