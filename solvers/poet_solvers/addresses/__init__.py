"""poet_solvers.addresses: offsets in one arena for a finished plan, for devices without an allocator.

    blocks       what is placed, and the result
    intervals    plan -> blocks: from when to when everything lives
    conflicts    blocks -> who lives together, and the lower bound
    greedy       the classical orders
    search       ejection search below a target
    placement    the portfolio of the two
    check        the independent check of the result
    arena        all of it: `place(graph, plan) -> Addresses`

Addresses that were not checked never leave this package.
"""

from poet_solvers.addresses.arena import place
from poet_solvers.addresses.blocks import Addresses, Block, Holds, Placed

__all__ = ["Addresses", "Block", "Holds", "Placed", "place"]
