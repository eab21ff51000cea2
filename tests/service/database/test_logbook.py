"""The logbook: in order, resumable, bounded, and honest about what was dropped."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poet_service.database import logbook
from poet_service.database.engine import open_store
from tests.service.database.scenes import Scene


class TestEvents:
    def test_numbers_count_from_one_and_a_reader_goes_on_where_it_was(self, scene):
        solve = scene.running()
        for number in range(5):
            assert scene.store.progress(solve.id, 1, f"step {number}", float(number))
        events = scene.store.events(solve.id, 0, 100)
        assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 7]
        assert events[-1].data == {"message": "step 4", "elapsed_seconds": 4.0}
        assert scene.store.events(solve.id, 3, 2) == events[3:5]
        assert scene.store.events(solve.id, 7, 100) == []

    @pytest.mark.parametrize("after", [2**31, 2**63, 10**30])
    def test_a_number_of_the_future_has_nothing_after_it(self, scene, after):
        assert scene.store.events(scene.submit().solve.id, after, 10) == []
        assert scene.store.read_log(scene.submit().solve.id, after, 10) == ("", after)

    def test_a_clock_that_jumps_back_changes_no_order(self, scene, clock):
        solve = scene.running()
        clock.now -= 3600
        scene.store.progress(solve.id, 1, "later", 1.0)
        scene.store.finish(solve.id, 1, b"plan", 1.0, 1.0, 0.0, 2.0)
        events = scene.store.events(solve.id, 0, 100)
        assert [event.seq for event in events] == [1, 2, 3, 4]
        assert events[-1].at < events[0].at
        assert scene.store.solve(solve.id).elapsed_seconds == 2.0

    def test_a_long_message_is_cut_and_says_so(self, scene):
        solve = scene.running()
        scene.store.progress(solve.id, 1, "x" * 100_000, 1.0)
        message = scene.store.events(solve.id, 2, 1)[0].data["message"]
        assert len(message) < 3000
        assert message.endswith("[cut after 2000 characters]")

    def test_characters_that_databases_do_not_like(self, scene):
        solve = scene.running()
        message = "null \0, half a pair \ud800, emoji \U0001f9ee"
        scene.store.progress(solve.id, 1, message, 1.0)
        assert scene.store.events(solve.id, 2, 1)[0].data["message"] == message

    def test_the_oldest_are_dropped_and_a_late_reader_is_told(self, scene, monkeypatch):
        monkeypatch.setattr(logbook, "MOST_EVENTS", 20)
        monkeypatch.setattr(logbook, "_TRIM_EVERY", 5)
        solve = scene.running()
        for number in range(3, 31):
            scene.store.progress(solve.id, 1, f"event {number}", 1.0)
        events = scene.store.events(solve.id, 0, 100)
        assert [event.seq for event in events] == list(range(10, 31))
        assert events[0].data == {"message": "10 events before were dropped.", "dropped": 10}
        assert events[1].data["message"] == "event 11"
        assert scene.store.events(solve.id, 0, 2) == events[:2]
        assert [event.seq for event in scene.store.events(solve.id, 10, 2)] == [11, 12]


class TestChanged:
    def test_only_what_has_newer_events(self, scene):
        one, two = scene.running(b"1"), scene.running(b"2")
        since = {one.id: one.last_seq, two.id: two.last_seq, "0" * 32: 0}
        assert scene.store.changed(since) == {}
        scene.store.progress(two.id, 1, "more", 1.0)
        assert scene.store.changed(since) == {two.id: scene.store.solve(two.id)}
        assert scene.store.changed({}) == {}

    def test_more_at_once_than_a_statement_has_parameters(self, scene):
        solve = scene.running()
        since = {f"{number:032x}": 0 for number in range(40_000)} | {solve.id: 0}
        assert list(scene.store.changed(since)) == [solve.id]
        assert scene.store.solves(since) == {solve.id: solve}


class TestLogs:
    def test_read_piece_by_piece(self, scene):
        solve = scene.running()
        assert scene.store.read_log(solve.id, 0, 100) == ("", 0)
        for line in ("one\n", "", "two\n", "three\n"):
            assert scene.store.log(solve.id, 1, line)
        assert scene.store.read_log(solve.id, 0, 100) == ("one\ntwo\nthree\n", 14)
        assert scene.store.read_log(solve.id, 5, 6) == ("wo\nthr", 11)
        assert scene.store.read_log(solve.id, 14, 100) == ("", 14)
        assert scene.store.solve(solve.id).log_bytes == 14

    def test_the_next_attempt_writes_on(self, scene):
        solve = scene.running()
        scene.store.log(solve.id, 1, "first\n")
        scene.store.lost(solve.id, 1)
        scene.store.claim(solve.id, "next")
        scene.store.log(solve.id, 2, "second\n")
        assert scene.store.read_log(solve.id, 0, 100)[0] == "first\nsecond\n"

    @pytest.mark.parametrize("size", [5, 1, 100], ids=["many", "bytes", "one"])
    def test_the_beginning_is_kept_and_the_end_says_that_it_was_cut(self, scene, monkeypatch, size):
        monkeypatch.setattr(logbook, "MOST_LOG_BYTES", 21)
        solve = scene.running()
        text = "äöü" * 20
        for start in range(0, len(text), size):
            assert scene.store.log(solve.id, 1, text[start : start + size])
        whole, end = scene.store.read_log(solve.id, 0, 10_000)
        assert whole.startswith("äöü" * 3 + "ä")
        assert whole.count("The log is cut here") == 1
        assert whole.endswith("]\n")
        assert scene.store.read_log(solve.id, end, 100) == ("", end)
        assert scene.store.solve(solve.id).log_bytes == len(whole.encode()) == end


@pytest.fixture(scope="module")
def one_scene(tmp_path_factory):
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('log')}/poet.db")
    yield Scene(store)
    store.close()


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5),
    most=st.integers(1, 12),
)
def test_a_reader_gets_every_character_once(one_scene, pieces, most):
    store = one_scene.store
    submitted = one_scene.submit()
    solve = store.claim(submitted.solve.id, "worker")
    for piece in pieces:
        store.log(solve.id, 1, piece)
    offset, read = 0, ""
    while (got := store.read_log(solve.id, offset, most))[1] > offset:
        read, offset = read + got[0], got[1]
    store.stopped(solve.id, 1)
    store.leave(submitted.job.id, 1, discard=True)
    assert read == "".join(pieces)
