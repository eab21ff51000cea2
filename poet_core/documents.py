"""Strict JSON in, canonical JSON out.

A document comes from a stranger. Bytes, depth and every count are bounded before anything is
built; duplicate keys, NaN, infinities and integers that JSON readers do not keep exactly are
refused; unknown fields are errors, except under `x`. Every DocumentError names the path.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from poet_core.errors import DocumentError
from poet_core.text import printable
from poet_core.units import LARGEST_INTEGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a document may be at most. `references` counts storages named by ops; `values`
    everything between commas, which bounds what parsing may allocate."""

    document_bytes: int = 64 * 2**20
    depth: int = 16
    storages: int = 100_000
    ops: int = 50_000
    references: int = 1_000_000
    values: int = 10_000_000
    string_length: int = 1_000


DEFAULT_LIMITS = Limits()


def parse_json(text: bytes | str, limits: Limits = DEFAULT_LIMITS) -> Any:
    """The value of a JSON text. Raises DocumentError where it is not strict or too large."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > limits.document_bytes:
        refuse("$", f"at most {limits.document_bytes} bytes", f"{len(data)} bytes",
               code="document_too_large")  # fmt: skip
    _check_depth(data, limits)
    separators = data.count(b",")
    if separators >= limits.values:
        refuse("$", f"at most {limits.values} values", f"{separators} commas",
               code="limit_exceeded")  # fmt: skip
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_exact_integer,
            parse_float=_finite_float,
        )
    except UnicodeDecodeError as error:
        refuse("$", "UTF-8 text", f"other bytes at offset {error.start}", code="document_not_json")
    except json.JSONDecodeError as error:
        refuse("$", "JSON", f"{error.msg} at line {error.lineno} column {error.colno}",
               code="document_not_json")  # fmt: skip


def canonical_json(document: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, ASCII, shortest floats."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def sha256_of(document: Any) -> str:
    """Hex SHA-256 over the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def refuse(path: str, expected: str, got: str, *, code: str = "document_invalid") -> NoReturn:
    """Raise a DocumentError that says where, what was expected and what was got."""
    where = printable(path, 200)
    raise DocumentError(
        f"At {where}: expected {expected}, got {got}.", code=code, details={"path": where}
    )


# JSON can escape half a pair (RFC 8259, section 8.2); no UTF-8 file, reply or terminal can hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Node:
    """A value inside a document together with its path; each reader checks and narrows."""

    __slots__ = ("_where", "limits", "value")

    def __init__(
        self,
        value: Any,
        where: str | tuple[Node, str | int] = "$",
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`where`: the path, or the node that holds this one and the field or index in it."""
        self.value, self._where, self.limits = value, where, limits

    @property
    def path(self) -> str:
        """Such as $.graph.ops[3].name; put together only where somebody has to be told."""
        if isinstance(self._where, str):
            return self._where
        above, step = self._where
        return above.path + (f".{step}" if isinstance(step, str) else f"[{step}]")

    def fields(self, required: frozenset[str], optional: frozenset[str] = frozenset()) -> Fields:
        """The object's members; unknown and missing ones are errors (`x` is always allowed)."""
        if not isinstance(self.value, dict):
            refuse(self.path, "an object", describe(self.value), code="wrong_type")
        for key in self.value:
            if key not in required and key not in optional and key != "x":
                refuse(f"{self.path}.{key}", f"one of {sorted(required | optional)}",
                       "an unknown field", code="unknown_field")  # fmt: skip
        if not required <= self.value.keys():
            missing = min(required - self.value.keys())
            refuse(f"{self.path}.{missing}", "a value", "nothing: the field is missing",
                   code="missing_field")  # fmt: skip
        return Fields(self)

    def items(self, most: int) -> Iterator[Node]:
        """The array's items, at most `most` of them."""
        if not isinstance(self.value, list):
            refuse(self.path, "an array", describe(self.value), code="wrong_type")
        if len(self.value) > most:
            refuse(self.path, f"at most {most} items", f"{len(self.value)}", code="limit_exceeded")
        return (Node(item, (self, index), self.limits) for index, item in enumerate(self.value))

    def integer(self, least: int = 0, most: int = LARGEST_INTEGER) -> int:
        """An integer in [least, most]; true and 1.0 are none."""
        if type(self.value) is not int:
            refuse(self.path, "an integer", describe(self.value), code="wrong_type")
        if not least <= self.value <= most:
            refuse(self.path, f"an integer from {least} to {most}", describe(self.value),
                   code="out_of_range")  # fmt: skip
        return self.value

    def integers(self, most: int) -> tuple[int, ...]:
        """An array of at most `most` integers of at least 0."""
        if not isinstance(self.value, list) or len(self.value) > most:
            return tuple(item.integer() for item in self.items(most))
        for index, item in enumerate(self.value):
            if type(item) is not int or not 0 <= item <= LARGEST_INTEGER:
                Node(item, (self, index), self.limits).integer()
        return tuple(self.value)

    def number(self, least: float = 0.0, most: float = 1e300) -> float:
        """A finite number in [least, most]."""
        if type(self.value) not in (int, float):
            refuse(self.path, "a number", describe(self.value), code="wrong_type")
        if not least <= self.value <= most:  # false for NaN; exact for integers of any length
            refuse(self.path, f"a number from {least:g} to {most:g}", describe(self.value),
                   code="out_of_range")  # fmt: skip
        return float(self.value)

    def numbers(self, most: int) -> tuple[float, ...]:
        """An array of at most `most` finite numbers of at least 0."""
        return tuple(item.number() for item in self.items(most))

    def string(self) -> str:
        """A string within the length limit."""
        if not isinstance(self.value, str):
            refuse(self.path, "a string", describe(self.value), code="wrong_type")
        if len(self.value) > self.limits.string_length:
            refuse(self.path, f"at most {self.limits.string_length} characters",
                   f"{len(self.value)}", code="limit_exceeded")  # fmt: skip
        if not self.value.isascii() and _SURROGATE.search(self.value):
            refuse(self.path, "Unicode text", "half of a surrogate pair", code="wrong_value")
        return self.value

    def boolean(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            refuse(self.path, "true or false", describe(self.value), code="wrong_type")
        return self.value

    def choice(self, choices: frozenset[str]) -> str:
        """One of `choices`."""
        if not isinstance(self.value, str) or self.value not in choices:
            refuse(self.path, f"one of {sorted(choices)}", describe(self.value), code="wrong_value")
        return self.value


class Fields:
    """The members of an object, by name."""

    __slots__ = ("_node", "_values")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._values: dict[str, Any] = node.value

    def __getitem__(self, name: str) -> Node:
        return Node(self._values[name], (self._node, name), self._node.limits)

    def get(self, name: str) -> Node | None:
        """The member, or None where it is absent or null."""
        value = self._values.get(name)
        return None if value is None else Node(value, (self._node, name), self._node.limits)

    def check_schema(self, expected: str) -> None:
        """Refuse a document of another kind or version."""
        schema = self["schema"].string()
        if schema != expected:
            refuse(f"{self._node.path}.schema", repr(expected), describe(schema),
                   code="wrong_schema")  # fmt: skip


def describe(value: Any) -> str:
    """A value in a few safe words, for error messages."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, str):
        return f"the string {printable(value, 40)!r}"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "a longer integer"
    if value is None or isinstance(value, int | float):
        return json.dumps(value)
    return "a value that JSON does not have"


_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _check_depth(data: bytes, limits: Limits) -> None:
    """Refuse deep nesting before the recursive parser sees it.

    What is no string is every other piece between quotes, once no backslash hides one: of a run of
    backslashes the first hides the second, so pairs go first. A backslash outside of strings is no
    JSON, and the parser gets no further than there.
    """
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = data.count(b'"')
    if quotes > 4 * limits.values:  # a name and a string take four
        refuse("$", f"at most {limits.values} values", f"{quotes} quotes", code="limit_exceeded")
    brackets = b"".join(data.split(b'"')[::2]).translate(_BRACKETS, _NO_BRACKETS)
    left = brackets
    for _ in range(limits.depth):  # each round takes away the innermost level
        left = left.replace(b"[]", b"")
    if not left:
        return
    depth = 0
    for bracket in brackets:  # deep, or not even JSON
        depth += 1 if bracket == ord("[") else -1
        if depth > limits.depth:
            refuse("$", f"at most {limits.depth} levels of nesting", "more",
                   code="document_too_deep")  # fmt: skip


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                refuse("$", "each key once in an object", f"{printable(key, 40)!r} twice",
                       code="duplicate_key")  # fmt: skip
            seen.add(key)
    return members


def _refuse_constant(text: str) -> NoReturn:
    refuse("$", "finite numbers", text, code="not_finite")


def _exact_integer(text: str) -> int:
    # 2^53 has 16 digits; int() of a very long text is slow.
    if len(text) < 16 or (len(text) <= 17 and abs(int(text)) <= LARGEST_INTEGER):
        return int(text)
    refuse("$", "integers of at most 2^53 - 1", printable(text, 40), code="out_of_range")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        refuse("$", "finite numbers", printable(text, 40), code="not_finite")
    return number
