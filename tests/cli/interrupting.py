"""Ctrl-C, as a terminal sends it, at a moment that a test chooses."""

import contextlib
import signal
import threading

from tests.client.fake_service import FakeService, served


def press_ctrl_c():
    """In the main thread, wherever it waits."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@contextlib.contextmanager
def interrupting(on_job, times=1):
    """(service, address) of a fake service that presses Ctrl-C when somebody waits for a job, and, of
    two `times`, when the job is stopped."""
    service, left = FakeService(on_job), [times]

    def handle(handler, body):
        waits = handler.path.endswith("/events") or "wait=" in handler.path
        if left[0] and (waits or handler.command == "DELETE"):
            left[0] -= 1
            threading.Timer(0.3, press_ctrl_c).start()
            if not waits:
                threading.Event().wait(1.5)
        return service.handle(handler, body)

    with served(handle) as url:
        yield service, url
