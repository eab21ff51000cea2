"""The log goes where standard error is, line by line, and never into somebody's way."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from poet_service.logs import LOGGER, configure_logging


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    handlers, level, ours = logging.root.handlers[:], logging.root.level, LOGGER.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    LOGGER.setLevel(ours)


def test_a_stderr_that_was_replaced_for_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = io.StringIO()
    with monkeypatch.context() as replaced:
        replaced.setattr(sys, "stderr", theirs)
        configure_logging()
        LOGGER.warning("to them")
        assert json.loads(theirs.getvalue())["message"] == "to them"
    theirs.close()
    LOGGER.warning("to us")
    assert json.loads(capsys.readouterr().err)["message"] == "to us"


def test_a_stderr_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    configure_logging()
    monkeypatch.setattr(sys, "stderr", closed)
    LOGGER.warning("to nobody")
    monkeypatch.setattr(sys, "stderr", None)
    LOGGER.warning("to nobody")
