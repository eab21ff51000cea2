"""The warm process on its own: an owner that died says nothing to anybody."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("dies", ["before it is ready", "afterwards"])
def test_an_owner_that_was_killed_is_no_error(dies: str) -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "poet_service.execution.warm", str(theirs.fileno())]
    with theirs, subprocess.Popen(
        [*command, "tests.service.execution.odd_child"],
        pass_fds=[theirs.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        theirs.close()
        if dies == "afterwards":
            assert ours.recv(64) == b"ready\n"
        ours.close()
        said, _ = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, b"")
