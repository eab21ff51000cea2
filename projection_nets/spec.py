"""What a projection is, in a few numbers: enough to make the same bits again anywhere.

    kind        gaussian | ternary    a dense vector of in_features numbers
                hashed                sparse features, each a 64-bit hash with an integer weight
    T x d       `functions` x `bits` inner products; bit t * d + j is bit j of the paper's P^t
    values      what a bit is to the network: zero_one (0, 1) or plus_minus_one (-1, 1)

Invariant: a spec is what leaves the training machine in the place of a matrix; equal specs give
equal bits in torch, numpy and the exported code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from poet_core.errors import UsageError
from projection_nets.hashing import checked_seed
from projection_nets.text import TextFeatures

MATRIX_ENTRIES_LIMIT = 2**28
"""1 GiB in float32: more than that is a wrong number in a file or a call, not a small model."""

PROJECTED_BITS_LIMIT = 2**20


class ProjectionKind(StrEnum):
    """Where the entries of the projection vectors come from."""

    GAUSSIAN = "gaussian"  # popcount(64 random bits) - 32: nearly Gaussian integers
    TERNARY = "ternary"  # +1, 0, 0, -1 with equal chances
    HASHED = "hashed"  # odd integers -255..255 from the feature's own hash


class BitValues(StrEnum):
    """What the two values of a bit are to the network."""

    ZERO_ONE = "zero_one"
    PLUS_MINUS_ONE = "plus_minus_one"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionSpec:
    """One projection. `in_features` is 0 where features are hashed: there is no vocabulary.

    `input_max`: the largest input that a dense projection is exact for; `text`: how a text becomes
    features, for a hashed projection over text. Raises UsageError (`projection_invalid`,
    `seed_invalid`).
    """

    kind: ProjectionKind = ProjectionKind.GAUSSIAN
    in_features: int = 0
    functions: int = 60
    bits: int = 12
    seed: int = 2017
    input_max: int = 255
    values: BitValues = BitValues.ZERO_ONE
    text: TextFeatures | None = None

    def __post_init__(self) -> None:
        checked_seed(self.seed)
        # a plain string is as good as the member that it names
        for name, enum in (("kind", ProjectionKind), ("values", BitValues)):
            value = getattr(self, name)
            if value not in list(enum):
                raise _invalid(f"{name} of {', '.join(enum)}", value, "Pass one of these.")
            object.__setattr__(self, name, enum(value))
        for name in ("functions", "bits", "input_max"):
            check_positive(name, getattr(self, name))
        if self.projected_bits > PROJECTED_BITS_LIMIT:
            raise _invalid(
                f"at most {PROJECTED_BITS_LIMIT} bits", self.projected_bits, "Use fewer functions."
            )
        if self.kind is ProjectionKind.HASHED:
            if self.in_features != 0:
                raise _invalid("no in_features with hashed features", self.in_features, "Pass 0.")
            return
        check_positive("in_features", self.in_features)
        if self.text is not None:
            raise _invalid("no text options for a dense projection", "some", "Use kind hashed.")
        if self.in_features * self.projected_bits > MATRIX_ENTRIES_LIMIT:
            raise UsageError(
                f"Expected a projection matrix of at most {MATRIX_ENTRIES_LIMIT} entries, got "
                f"{self.projected_bits * self.in_features} "
                f"({self.functions} x {self.bits} x {self.in_features}).",
                code="projection_invalid",
                hint="Use fewer functions or bits, or a smaller input.",
            )

    @property
    def projected_bits(self) -> int:
        """Bits of one input: the paper's T * d."""
        return self.functions * self.bits

    @property
    def packed_bytes(self) -> int:
        """Bytes that the bits of one input fill."""
        return (self.projected_bits + 7) // 8

    def to_document(self) -> dict[str, Any]:
        """The spec as JSON values."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> ProjectionSpec:
        """The spec of `to_document`; raises UsageError, TypeError, KeyError or ValueError."""
        text = document["text"]
        return cls(
            **{
                **document,
                "text": None if text is None else TextFeatures(**text),
            }
        )


def check_positive(name: str, value: object) -> None:
    """Raises UsageError (`projection_invalid`) where `value` is no integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _invalid(f"{name} to be a positive integer", value, f"Pass at least 1 as {name}.")


def _invalid(expected: str, got: object, hint: str) -> UsageError:
    return UsageError(
        f"Expected {expected}, got {got!r:.40}.", code="projection_invalid", hint=hint
    )
