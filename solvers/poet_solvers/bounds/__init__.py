"""Lower bounds on what any schedule in the given order costs.

    prices (what a run and a transfer cost at least) -> checkpoints (where RAM is counted)
      -> first_run (the relaxation, as plain rows) -> prove (LP with exact duals, then MILP)

Invariant: every schedule that the judge accepts, with first runs in document order, is a feasible
point of the relaxation that costs no more. docs/formulation.md, "Lower bounds", has the proof.
"""
