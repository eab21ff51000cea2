"""Long work in a thread, so that Ctrl-C reaches it as a cancellation and not in its middle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from poet_cli.output import say

_Result = TypeVar("_Result")


def interruptible(
    work: Callable[[threading.Event], _Result], stopping: str
) -> tuple[_Result, bool]:
    """What `work` returns, and whether Ctrl-C cancelled it. `work` gets the event that says so, and
    returns what it has within about a second; `stopping` is said meanwhile."""
    cancel, over = threading.Event(), threading.Event()
    found: list[_Result] = []
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            found.append(work(cancel))
        except BaseException as error:  # noqa: BLE001  Raised again in the waiting thread.
            failed.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=guarded, name="poet-work")
    thread.start()
    # Not `thread.join`: where Ctrl-C interrupts it, Python 3.11 takes the thread for ended.
    while not over.is_set():
        try:
            over.wait(0.1)
        except KeyboardInterrupt:
            if not cancel.is_set():
                say(stopping)
            cancel.set()
    if failed:
        raise failed[0]
    return found[0], cancel.is_set()
