"""The service's benchmark: its generator charges a stall to all who wait for it, its figures say what
was missed, and its parts measure a real service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks import service, service_figures
from benchmarks.service_burst import burst
from benchmarks.service_cached import cached
from benchmarks.service_figures import Figure, Part
from benchmarks.service_http import Address, Connection, ask_once, request_bytes
from benchmarks.service_load import Load, at_rate, percentile, saturated
from benchmarks.service_problems import body_of, large_graph, large_request, small_request
from poet_core.errors import BudgetError
from poet_core.plan_request import PlanRequest, request_from_document

Answering = Callable[[asyncio.StreamWriter], Coroutine[None, None, bool]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
GET = request_bytes("GET", "/")


@asynccontextmanager
async def answering(answer: Answering) -> AsyncIterator[Address]:
    """A server for the block: `answer` is called for each request until it returns False."""
    under_way: set[asyncio.Task[None] | None] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n") and await answer(writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
        await asyncio.gather(*filter(None, under_way))


async def plainly(writer: asyncio.StreamWriter) -> bool:
    """Answers every request."""
    writer.write(OK)
    return True


def test_percentiles_are_values_that_were_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
    assert percentile(list(map(float, range(1, 101))), 0.99) == 99.0
    assert percentile([7.0], 0.5) == 7.0


def test_a_stall_is_charged_to_all_who_were_due_meanwhile() -> None:
    stall_seconds, served = 0.5, 0

    async def stalling(writer: asyncio.StreamWriter) -> bool:
        nonlocal served
        served += 1
        if served == 10:
            await asyncio.sleep(stall_seconds)
        return await plainly(writer)

    async def measure() -> Load:
        async with answering(stalling) as address:
            return await at_rate(lambda _: GET, address, connections=1, per_second=100, seconds=1.0)

    load = asyncio.run(measure())
    assert load.statuses[200] == 100
    # A generator that waits for its answers would have one slow request, not half a second of them.
    assert sum(latency > stall_seconds / 2 for latency in load.latencies) >= 20
    assert load.bad == 0


def test_what_fails_is_counted_and_the_load_goes_on() -> None:
    served = 0

    async def refusing(writer: asyncio.StreamWriter) -> bool:
        nonlocal served
        served += 1
        if served != 3:
            writer.write(OK.replace(b"200", b"503") if served == 5 else OK)
        return served != 3

    async def measure() -> Load:
        async with answering(refusing) as address:
            return await at_rate(lambda _: GET, address, connections=1, per_second=200, seconds=0.1)

    load = asyncio.run(measure())
    assert (load.statuses[200], load.statuses[503]) == (18, 1)
    assert (load.failures.total(), load.bad) == (1, 2)


def test_at_saturation_every_connection_asks_again_at_once() -> None:
    async def measure() -> Load:
        async with answering(plainly) as address:
            return await saturated(lambda _: GET, address, connections=4, seconds=0.3)

    load = asyncio.run(measure())
    assert load.per_second * load.seconds == pytest.approx(len(load.latencies))
    assert len(load.latencies) > 40
    assert load.bad == 0


def test_an_answer_may_come_in_pieces_and_headers_are_found() -> None:
    async def slowly(writer: asyncio.StreamWriter) -> bool:
        for byte in b"HTTP/1.1 429 No\r\nretry-After: 7\r\nContent-length: 3\r\n\r\nyes":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        return True

    async def ask() -> None:
        async with answering(slowly) as address:
            answer = await ask_once(address, GET)
        assert (answer.status, answer.body, answer.header("retry-after")) == (429, b"yes", "7")
        assert answer.header("after") is None

    asyncio.run(ask())


def test_a_server_that_never_answers_is_given_up() -> None:
    async def never(writer: asyncio.StreamWriter) -> bool:
        return not writer.is_closing()

    async def ask() -> None:
        async with answering(never) as address:
            connection = await Connection.to(address)
            with pytest.raises(TimeoutError):
                await connection.ask(GET, seconds=0.05)
            await asyncio.sleep(0)
            assert not connection.is_open

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("figure", "missed"),
    [
        (Figure(what="a", value=5, most=5), False),
        (Figure(what="a", value=5.1, most=5), True),
        (Figure(what="a", value=5, least=5, most=5), False),
        (Figure(what="a", value=4, least=5, most=5), True),
        (Figure(what="a", value=1e9), False),
    ],
)
def test_a_figure_is_missed_where_it_is_not_what_was_asked(figure: Figure, missed: bool) -> None:
    assert figure.missed is missed


def test_what_is_written_is_read_again_and_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    begin, end = "<!-- benchmarks.service -->\n", "<!-- end of benchmarks.service -->\n"
    page.write_text(f"before\n{begin}old{end}after\n")
    monkeypatch.setattr(service_figures, "RESULTS", tmp_path)
    monkeypatch.setattr(service_figures, "PAGE", page)
    figures = (
        Figure(what="half", value=1.234, unit="ms", most=1),
        Figure(what="all", value=1000, least=1000, most=1000),
    )
    part = Part(title="One", figures=figures, loads=(0.5, 1.5))
    service_figures.store("b", part, ["a", "b"])
    service_figures.store("a", Part(title="Two", figures=(), loads=(0.0, 0.0)), ["a", "b"])
    parts, where = service_figures.stored()
    assert [one.title for one in parts] == ["Two", "One"]
    assert parts[1] == part
    assert list(json.loads((tmp_path / "service.json").read_text())["parts"]) == ["a", "b"]
    text = service_figures.table(parts, where)
    assert "| half | 1.23 ms | at most 1 ms (missed) |" in text
    assert "| all | 1,000 | 1,000 |" in text
    assert page.read_text() == (f"before\n{begin}\n{text}\n{end}after\n")
    assert service_figures.missed(parts) == ["One: half 1.23 ms, at most 1 ms was asked"]


def test_small_problems_differ_and_can_be_planned_below_keep_everything() -> None:
    requests = [small_request(number) for number in (0, 1, 8, 10_000)]
    assert len({body_of(request) for request in requests}) == len(requests)
    for request in requests:
        assert request_from_document(json.loads(body_of(request))) == request
        request.problem()
    with pytest.raises(BudgetError):
        PlanRequest(graph=requests[0].graph, device=requests[0].device, ram_bytes=1).problem()


def test_the_large_graph_is_as_large_as_berts() -> None:
    graph = large_graph()
    references = sum(len(op.touches) for op in graph.ops)
    # A step of BERT-base: 950 ops, 1,495 storages, 3,136 references, 435 kB.
    assert 900 <= len(graph.ops) <= 1000
    assert 1300 <= len(graph.storages) <= 1700
    assert 3000 <= references <= 3500
    assert len(body_of(large_request())) > 430_000
    assert 950_000 <= len(body_of(large_request(27))) <= 1_200_000


def value(figures: list[Figure], what: str) -> float:
    return next(figure.value for figure in figures if figure.what.startswith(what))


def test_stored_answers_of_a_real_service() -> None:
    figures = cached(0.5, problems=2)
    assert value(figures, "requests that failed") == 0
    assert value(figures, "POSTs answered") > 10
    # What the service adds is more than nothing.
    assert value(figures, "POST of a stored problem") > 0
    assert value(figures, "the API process's CPU time of a POST") > 0


def test_a_burst_on_a_real_service_loses_nothing() -> None:
    figures = burst(3)
    assert [figure for figure in figures if figure.missed] == []
    assert value(figures, "jobs that ended with a plan") == 3
    assert value(figures, "plans that the client's judge accepts") == 3
    assert 10 < value(figures, "RAM of the API process at most") < 300


@pytest.mark.slow
def test_the_other_parts_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    service.main(["--short", "--part", "big", "--part", "streams"])
    text = capsys.readouterr().out
    assert "| readers of one solve that saw the same events to its end | 4 | 4 |" in text
    assert "| all of them, in order, none twice (1: yes) | 1 | 1 |" in text
    assert ": accept, half |" in text
