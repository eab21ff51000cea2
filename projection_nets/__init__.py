"""Big trainer, tiny projection: the joint training that this project exists for (Ravi 2017).

pixels 0..255 ──┬── / 255 ── trainer (big, stays behind) ──── logits ─┐
                └── LSH bits ── projection head (tiny, leaves) ─ logits ─┴── JointObjective

hashing, matrices      integers from counters: the same on every machine
spec, lsh, signs       T x d bits of a dense input, from a seed; the matrix is never stored
text, hashed           the same for texts: one hash a feature, no vocabulary
packing                bits in bytes, computed once
heads, nets            bits -> classes: layers or lookup tables
trainers               the big networks
objective, losses      the joint loss of two networks, Eq. 1-2
joint_step, joint_training   several trainers and students in one step
mentoring, adapters    a mentee under a mentor, layer by layer
recording, recorded    a mentor's answers in a file
projection_graph, neighbours, propagation, graph_training   examples linked through their bits
stored, model_file     the small model alone, in one file; reader.py reads it with numpy alone
quantize               weights as int8 or int4, the network in integers
quantized_training     the same while it trains
sharing                weights from a small codebook a layer
baselines              what the papers compare with
c_export, onnx_export  the same as C99, and as ONNX
training, eager        a run: budget or none, checkpoints, progress
metrics                P@k
data/                  data sets, minibatches
"""

from projection_nets import trainers
from projection_nets.joint_training import JointTraining, Student, Teacher
from projection_nets.lsh import LshProjection
from projection_nets.nets import NetOnBits, ProjectionNet
from projection_nets.objective import JointObjective, JointOutputs

__all__ = [
    "JointObjective",
    "JointOutputs",
    "JointTraining",
    "LshProjection",
    "NetOnBits",
    "ProjectionNet",
    "Student",
    "Teacher",
    "trainers",
]
