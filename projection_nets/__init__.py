"""Big trainer, tiny projection: the joint training that this project exists for (Ravi 2017).

pixels 0..255 ──┬── / 255 ── trainer (big, stays behind) ──── logits ─┐
                └── LSH bits ── projection head (tiny, leaves) ─ logits ─┴── JointObjective

hashing.py     integers from counters: the same on every machine
lsh.py         T x d bits of an input, from a seed; the matrix is never stored
nets.py        ProjectionNet: bits -> classes
trainers.py    the big networks
objective.py   the joint loss, Eq. 1-2
model_file.py  the small model alone, in one file
metrics.py     P@k
data/          MNIST, digits, minibatches
"""

from projection_nets import trainers
from projection_nets.lsh import LshProjection
from projection_nets.nets import NetOnBits, ProjectionNet
from projection_nets.objective import JointObjective, JointOutputs

__all__ = [
    "JointObjective",
    "JointOutputs",
    "LshProjection",
    "NetOnBits",
    "ProjectionNet",
    "trainers",
]
