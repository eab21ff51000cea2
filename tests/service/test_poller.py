"""Whoever waits wakes for its own solve, at once where somebody tells, and never in vain for long."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from poet_core.errors import ServiceError
from poet_service.poller import Poller


class Database:
    """Counts how often it is asked."""

    def __init__(self):
        self.seqs, self.asked, self.away = {}, 0, False

    async def changed(self, since):
        self.asked += 1
        if self.away:
            raise ServiceError("Away.", code="database_unavailable")
        return {
            solve_id: SimpleNamespace(last_seq=self.seqs[solve_id])
            for solve_id, seq in since.items()
            if self.seqs.get(solve_id, 0) > seq
        }


def run(work):
    async def bounded():
        async with asyncio.timeout(10):
            return await work()

    return asyncio.run(bounded())


@pytest.fixture
def database():
    return Database()


def waiting(poller, solve_id, seconds=5.0, seq=0):
    return asyncio.create_task(poller.news({solve_id: seq}, seconds, mark=poller.mark))


def test_each_wakes_for_its_own(database):
    async def work():
        poller = Poller(database.changed, seconds=0.01)
        mine, other = waiting(poller, "a"), waiting(poller, "b", seconds=0.2)
        await asyncio.sleep(0.03)
        database.seqs["a"] = 1
        found = await mine, await other
        await poller.close()
        return found

    assert run(work) == (True, False)


def test_one_query_for_all_and_none_for_nobody(database):
    async def work():
        poller = Poller(database.changed, seconds=0.05)
        await asyncio.gather(*(waiting(poller, str(item), 0.12) for item in range(50)))
        asked = database.asked
        await asyncio.sleep(0.12)
        return asked, database.asked

    asked, later = run(work)
    assert 1 <= asked <= 4
    assert later <= asked + 1  # the last round finds nobody


def test_who_is_told_wakes_at_once(database):
    async def work():
        poller = Poller(database.changed, seconds=60)
        task = waiting(poller, "a")
        await asyncio.sleep(0.02)
        database.seqs["a"] = 1
        began = time.monotonic()
        await asyncio.to_thread(poller.notify, "a")
        found = await task
        await poller.close()
        return found, time.monotonic() - began

    found, seconds = run(work)
    assert found
    assert seconds < 5


def test_being_told_of_another_solve_asks_nothing(database):
    async def work():
        poller = Poller(database.changed, seconds=60)
        task = waiting(poller, "a", 0.05)
        await asyncio.sleep(0.01)
        poller.notify("b")
        found = await task
        await poller.close()
        return found

    assert run(work) is False
    assert database.asked == 0


def test_what_is_told_before_the_wait_is_not_missed(database):
    async def work():
        poller = Poller(database.changed, seconds=60)
        mark = poller.mark
        poller.nudge(["a"])
        return await poller.news({"a": 0}, 5, mark=mark)

    assert run(work) is True


def test_a_nudge_wakes_those_of_that_solve(database):
    async def work():
        poller = Poller(database.changed, seconds=60)
        mine, other = waiting(poller, "a"), waiting(poller, "b", 0.1)
        await asyncio.sleep(0.01)
        poller.nudge(["a"])
        found = await mine, await other
        await poller.close()
        return found

    assert run(work) == (True, False)


def test_a_database_that_is_away_is_asked_again(database):
    async def work():
        poller = Poller(database.changed, seconds=0.01)
        database.away = True
        task = waiting(poller, "a")
        await asyncio.sleep(0.05)
        database.away, database.seqs["a"] = False, 1
        found = await task
        await poller.close()
        return found

    assert run(work) is True


def test_at_the_end_everybody_is_let_go(database):
    async def work():
        poller = Poller(database.changed, seconds=60)
        task = waiting(poller, "a")
        await asyncio.sleep(0.01)
        await poller.close()
        return await task, await poller.news({"a": 0}, 5, mark=poller.mark), poller.closed

    assert run(work) == (False, False, True)


def test_being_told_after_the_loop_has_ended(database):
    poller = Poller(database.changed, seconds=60)

    async def work():
        await waiting(poller, "a", 0.01)

    run(work)
    poller.notify("a")
