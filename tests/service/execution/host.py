"""A process with an EmbeddedExecutor, for tests that kill it: python -m ...host FOLDER CHILD SOLVES [KILL]

KILL is `before:claim:3` or `after:finish:1`: the process kills itself right before or after that
call of that Store method. It says `ready WARM_PROCESS_ID` when it works; SIGTERM ends it properly.
"""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from poet_service.database.engine import open_store
from poet_service.execution.embedded import EmbeddedExecutor
from poet_service.execution.nursery import Nursery
from tests.service.execution.cases import LIMITS


def main(folder, child, solves, kill=None):
    store = open_store(f"sqlite:///{folder / 'poet.sqlite3'}")
    if kill:
        _arm(store, *kill.split(":"))
    asyncio.run(_serve(store, folder, child, solves))
    store.close()


async def _serve(store, folder, child, solves):
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    nursery = Nursery(folder, child=child)
    executor = EmbeddedExecutor(
        store,
        folder=folder,
        solves_at_once=solves,
        limits=replace(LIMITS, wall_grace_seconds=2.0),
        reconcile_seconds=0.2,
        nursery=nursery,
    )
    await executor.start()
    sys.stdout.write(f"ready {nursery.process_id}\n")
    sys.stdout.flush()
    await ended.wait()
    await executor.close()


def _arm(store, when, method, number):
    calls = [0]
    carry_out = getattr(store, method)

    def armed(*arguments, **named):
        calls[0] += 1
        if calls[0] == int(number) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = carry_out(*arguments, **named)
        if calls[0] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(store, method, armed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
