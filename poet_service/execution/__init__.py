"""Execution: how a queued solve becomes an answer, and what ends with it.

    executor      Executor: what the API needs of whoever carries solves out
    embedded      EmbeddedExecutor: threads of the API process, one such process a state folder
    distributed   ProcrastinateExecutor and its workers, over PostgreSQL
    run_solve     one solve, from claim to end; both executors call it
    verdict       how a solve ends, from how its child ended
    recorder      what a solve writes into the Store: bounded rates, a database that goes away
    judging       the parent's judge: nothing of a child is believed
    supervisor    one child: its conversation, its limits, its end
    nursery       the warm process that children are forked from, as its owner sees it
    warm          that process
    child         what a child does: one request in, JSON lines out (reporter writes them)
    protocol      those lines, as the parent reads them
    limits        ExecutionLimits
    telling       a Store that tells who waits of each write
    lock          one embedded service a state folder
    folders       temporary folders, and the sweeping of those whose process died
    failures      errors as documents

One process tree:

    owner (API process or worker) ── warm process ── child (a session of its own) ── solver processes

Each dies with the one before it: the warm process sees its owner's end of a socket close, a child
gets the kernel's signal for the death of its parent, solver processes watch theirs
(poet_solvers.backends.supervisor).
"""
