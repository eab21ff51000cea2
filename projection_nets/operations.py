"""How many operations one input takes: the counts behind a size claim's other half."""

from __future__ import annotations

from dataclasses import dataclass

from projection_nets.spec import ProjectionKind
from projection_nets.stored import StoredNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Upper bounds for one input, or of a hashed projection for one *feature* of it.

    `random_words`: 64-bit words regenerated (two multiplications each); `projection_additions`:
    entries added to sums, Gaussian ones multiplied by the input first; `head_additions`: weights
    added where a bit is set; `head_multiplications`: of the hidden layers' values.
    """

    random_words: int
    projection_additions: int
    head_additions: int
    head_multiplications: int


def operations_of(model: StoredNet) -> Operations:
    """The counts of a model, every input non-zero and every bit set."""
    spec = model.spec
    bits, inputs = spec.projected_bits, spec.in_features
    vectors = 8 * spec.packed_bytes  # eight at a time
    words = {
        # one more a vector: its key
        ProjectionKind.GAUSSIAN: vectors * (inputs + 1),
        ProjectionKind.TERNARY: vectors * (-(-inputs // 32) + 1),
        ProjectionKind.HASHED: -(-bits // 8) + 1,
    }[spec.kind]
    first, *others = model.layers
    rows = spec.functions if model.rows is not None else bits
    return Operations(
        random_words=words,
        projection_additions=bits if spec.kind is ProjectionKind.HASHED else vectors * inputs,
        head_additions=rows * len(first.bias),
        head_multiplications=sum(layer.weight.size for layer in others),
    )
