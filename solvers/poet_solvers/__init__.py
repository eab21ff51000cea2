"""poet_solvers: from a planning problem to a plan. PuLP and the MILP solvers live only here.

Nothing in this package grades itself: what it returns goes to `poet_core.simulate`, which imports
none of it. Importing the package costs nothing; take what you need from its modules:

    backends         one adapter a MILP solver: solve_model(pulp model, limits) -> BackendResult
    poet_published   the paper's MILP, verbatim, for POET's own published optima
    poet_milp        the paper's MILP as the judge counts: what the planner answers with
"""
