"""Lower bounds on what any schedule in an order of first runs costs, and plans that meet them.

    prices (what a run and a transfer cost at least), checkpoints (where RAM is counted), segments
      -> first_run, inside, limits (the rows) -> relaxation (all of them on a grid)
      -> prove (LP with exact duals, MILP) -> read_point (a schedule) -> refine (a finer grid)
    orders (a plan's own order) -> ladder (one order's relaxations) -> prover (at the desk)

Invariant: every schedule that the judge accepts, with first runs in the listed order, is a feasible
point of the relaxation that costs no more. docs/formulation.md, "Lower bounds", has the proof.
"""
