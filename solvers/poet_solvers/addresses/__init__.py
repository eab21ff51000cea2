"""poet_solvers.addresses: offsets in one arena for a finished plan, for devices without an allocator.

    blocks       what is placed, and the result
    intervals    plan -> blocks: from when to when everything lives
    conflicts    blocks -> who lives together, and the lower bound
    greedy       the classical orders
    search       ejection search below a target
    room         how to make room for one block by moving others
    sweep        a packing in time order, with moves
    relocate     search for the sweep that moves the fewest bytes
    placement    the portfolio of these
    check        the independent check of the result, with check_moves
    shift        the same plan with shorter stays in RAM: `shifted(graph, plan) -> Plan`
    arena        all of it: `place(graph, plan) -> Addresses`
    document     the result as JSON, poet.addresses/1

Addresses that were not checked never leave this package.
"""

from poet_solvers.addresses.arena import place
from poet_solvers.addresses.blocks import Addresses, Block, Holds, Move, Placed
from poet_solvers.addresses.document import addresses_to_document, read_addresses
from poet_solvers.addresses.shift import shifted

__all__ = [
    "Addresses",
    "Block",
    "Holds",
    "Move",
    "Placed",
    "addresses_to_document",
    "place",
    "read_addresses",
    "shifted",
]
