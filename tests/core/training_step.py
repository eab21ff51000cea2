"""A training step written by hand: two layers with dropout, two parameters with momentum.

op  0 mask1 (random)   -> mask1
    1 mask2 (random)   -> mask2
    2 layer1           x, w1, mask1 -> h1
    3 layer2           h1, w2, mask2 -> h2
    4 loss             h2 -> loss, g2
    5 layer2 backward  g2, h1, mask2 -> gw2
    6 layer2 backward  g2, w2 -> g1
    7 update           gw2; w2, m2 changed in place
    8 layer1 backward  g1, x, mask1 -> gw1
    9 update           gw1; w1, m1 changed in place
"""

from __future__ import annotations

from poet_core.baseline import keep_everything
from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Budget, Do, Instruction, Schedule

X, W1, M1, W2, M2, MASK1, MASK2, H1, H2, LOSS, G2, GW2, G1, GW1 = range(14)
DRAW1, DRAW2, LAYER1, LAYER2, LOSS_OP, BACK_W2, BACK_X2, UPDATE2, BACK_W1, UPDATE1 = range(10)

_STORAGES = (
    ("x", 8, Role.INPUT), ("w1", 6, Role.PARAMETER), ("m1", 6, Role.OPTIMIZER_STATE),
    ("w2", 5, Role.PARAMETER), ("m2", 5, Role.OPTIMIZER_STATE), ("mask1", 1, Role.ACTIVATION),
    ("mask2", 1, Role.ACTIVATION), ("h1", 4, Role.ACTIVATION), ("h2", 3, Role.ACTIVATION),
    ("loss", 1, Role.RESULT), ("g2", 3, Role.GRADIENT), ("gw2", 5, Role.GRADIENT),
    ("g1", 4, Role.GRADIENT), ("gw1", 6, Role.GRADIENT),
)  # fmt: skip
_PERSISTENT = (W1, M1, W2, M2)


def _op(op_id: int, name: str, phase: Phase, reads: tuple[int, ...], writes: tuple[int, ...],
        mutates: tuple[int, ...] = (), random: bool = False) -> Op:  # fmt: skip
    return Op(
        id=op_id, name=name, kind="test", phase=phase, reads=reads, writes=writes, mutates=mutates,
        random=random, flops=8 * (op_id + 1),
    )  # fmt: skip


GRAPH = TrainingGraph(
    name="two layers",
    rng_state_bytes=2,
    storages=tuple(
        Storage(
            id=i, name=name, size_bytes=size, role=role, persistent=i in _PERSISTENT,
            result=i == LOSS,
        )
        for i, (name, size, role) in enumerate(_STORAGES)
    ),
    ops=(
        _op(DRAW1, "mask1", Phase.FORWARD, (), (MASK1,), random=True),
        _op(DRAW2, "mask2", Phase.FORWARD, (), (MASK2,), random=True),
        _op(LAYER1, "layer1", Phase.FORWARD, (X, W1, MASK1), (H1,)),
        _op(LAYER2, "layer2", Phase.FORWARD, (H1, W2, MASK2), (H2,)),
        _op(LOSS_OP, "loss", Phase.FORWARD, (H2,), (LOSS, G2)),
        _op(BACK_W2, "layer2.weight", Phase.BACKWARD, (G2, H1, MASK2), (GW2,)),
        _op(BACK_X2, "layer2.input", Phase.BACKWARD, (G2, W2), (G1,)),
        _op(UPDATE2, "update2", Phase.UPDATE, (GW2,), (), (W2, M2)),
        _op(BACK_W1, "layer1.weight", Phase.BACKWARD, (G1, X, MASK1), (GW1,)),
        _op(UPDATE1, "update1", Phase.UPDATE, (GW1,), (), (W1, M1)),
    ),
)  # fmt: skip

COSTS = Costs(
    op_seconds=tuple(1.0 + op.id for op in GRAPH.ops),
    op_joules=(1.0,) * len(GRAPH.ops),
    page_in_seconds=(2.0,) * len(GRAPH.storages),
    page_in_joules=(0.25,) * len(GRAPH.storages),
    page_out_seconds=(4.0,) * len(GRAPH.storages),
    page_out_joules=(0.5,) * len(GRAPH.storages),
)
ROOMY = Budget(ram_bytes=1000)
KEEP = keep_everything(GRAPH)


def run(op: int) -> Instruction:
    return Instruction(Do.COMPUTE, op)


def out(storage: int) -> Instruction:
    return Instruction(Do.PAGE_OUT, storage)


def bring(storage: int) -> Instruction:
    return Instruction(Do.PAGE_IN, storage)


def free(storage: int) -> Instruction:
    return Instruction(Do.FREE, storage)


def program(*instructions: Instruction) -> Schedule:
    """These instructions, started like keep-everything."""
    return Schedule(start_ram=KEEP.start_ram, start_flash=(), instructions=instructions)


def edited(
    *, drop: Instruction | tuple[Instruction, ...] = (), before: Instruction | None = None,
    after: Instruction | None = None, insert: tuple[Instruction, ...] = (),
) -> Schedule:  # fmt: skip
    """Keep-everything without `drop`, and with `insert` before or after an instruction."""
    dropped = (drop,) if isinstance(drop, Instruction) else drop
    instructions = [one for one in KEEP.instructions if one not in dropped]
    if before is not None:
        at = instructions.index(before)
    elif after is not None:
        at = instructions.index(after) + 1
    else:
        at = len(instructions)
    instructions[at:at] = insert
    return program(*instructions)
