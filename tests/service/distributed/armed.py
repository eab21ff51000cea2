"""`poet serve` or `poet worker` that dies, or waits to see others die, at a write that was named.

    POET_TEST_ARMED=FILE python -m tests.service.distributed.armed worker --solves 1

While FILE says `before:finish 2 die`, the second call of Store.finish from then on kills this
process right before its transaction; `after:finish`: right after it. `hold` instead of `die`: the
thread waits there. Either way the file is renamed first, to FILE.reached, so that it happens once
and is known to have happened; whoever holds goes on when FILE.reached is gone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poet_cli.main import main
from poet_service.database.store import Store

# Every write of a solve by its worker (all its transitions, and what comes between), and by an API.
WORKER_WRITES = (
    "claim", "incumbent", "log", "heartbeat", "progress", "bound", "finish", "fail", "stopped",
    "lost", "release",
)  # fmt: skip
API_WRITES = ("submit", "leave", "lost")


def arm(file: Path) -> None:
    """From now on this process's Store does what the file says."""
    calls = Counter[str]()

    def reach(moment: str) -> None:
        try:
            said = file.read_text(encoding="ascii")
            wanted, number, what = said.split()
        except (FileNotFoundError, ValueError):  # nothing is wanted, or somebody writes it just now
            return
        if wanted != moment:
            return
        calls[said] += 1
        if calls[said] < int(number):
            return
        del calls[said]
        reached = file.with_suffix(".reached")
        with contextlib.suppress(FileNotFoundError):  # another thread was faster
            file.rename(reached)
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            while reached.exists():
                time.sleep(0.005)

    for name in {*WORKER_WRITES, *API_WRITES}:
        setattr(Store, name, _armed(getattr(Store, name), name, reach))


def _armed(
    carry_out: Callable[..., Any], name: str, reach: Callable[[str], None]
) -> Callable[..., Any]:
    @functools.wraps(carry_out)
    def armed(*arguments: Any, **named: Any) -> Any:
        reach(f"before:{name}")
        answer = carry_out(*arguments, **named)
        reach(f"after:{name}")
        return answer

    return armed


if __name__ == "__main__":
    arm(Path(os.environ["POET_TEST_ARMED"]))
    main()
