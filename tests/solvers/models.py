"""Small and hard PuLP models that the solver tests share."""

import random

import pulp


def knapsack(*, weights: list[int], values: list[float], capacity: int) -> pulp.LpProblem:
    """The best of `values` whose `weights` fit into `capacity`."""
    problem = pulp.LpProblem("knapsack", pulp.LpMaximize)
    take = [problem.add_variable(f"take_{i}", cat=pulp.LpBinary) for i in range(len(weights))]
    problem.setObjective(pulp.lpDot(values, take))
    problem.addConstraint(pulp.lpDot(weights, take) <= capacity)
    return problem


def market_split(*, with_slack: bool, rows: int = 5, columns: int = 40) -> pulp.LpProblem:
    """Cornuejols and Dawande's market split: tiny to write, out of reach of branch and bound.

    With slack any point is a solution and the proof is out of reach; without, so is a solution.
    """
    draw = random.Random(1)
    problem = pulp.LpProblem("market_split", pulp.LpMinimize)
    buys = [problem.add_variable(f"buy_{i}", cat=pulp.LpBinary) for i in range(columns)]
    over_or_under: list[pulp.LpVariable] = []
    for row in range(rows):
        demand = [draw.randint(0, 99) for _ in range(columns)]
        split = pulp.lpDot(demand, buys)
        if with_slack:
            over = problem.add_variable(f"over_{row}", 0)
            under = problem.add_variable(f"under_{row}", 0)
            over_or_under += [over, under]
            split = split + under - over
        problem.addConstraint(split == sum(demand) // 2)
    problem.setObjective(pulp.lpSum(over_or_under) if with_slack else pulp.lpSum(buys))
    return problem
