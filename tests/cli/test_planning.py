"""Plans made while a person may press Ctrl-C."""

import os
import signal
import threading

import pytest

from poet_cli.commands import train
from poet_cli.planning import CancellablePlanner, InterruptiblePlanner


@pytest.fixture
def solver(monkeypatch):
    """A solver that works until it is cancelled, and says on which thread and whether it ended."""
    seen = {}

    def plan(self, request):
        seen["thread"] = threading.current_thread()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        seen["cancelled"] = self.cancel.wait(30)
        return request

    monkeypatch.setattr(CancellablePlanner, "plan", plan)
    return seen


def test_ctrl_c_ends_the_solver_before_it_goes_on(solver, capsys):
    with pytest.raises(KeyboardInterrupt):
        InterruptiblePlanner().plan(object())
    assert solver["cancelled"]
    assert solver["thread"] is not threading.main_thread()
    assert "Stopping" in capsys.readouterr().err


def test_train_in_this_process_plans_like_that():
    how = train._plan_arguments(None, "host", None, 1 << 20, None)
    assert isinstance(how["planner"], InterruptiblePlanner)
