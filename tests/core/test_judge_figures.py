"""The judge's figures on steps that are small enough to be worked out by hand."""

from dataclasses import replace

import pytest

from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Budget, Do, Instruction, Schedule
from poet_core.simulate import Judgement, simulate
from tests.core.training_step import bring, free, out, run


def step(
    sizes: dict[str, int], ops: list[tuple[str, str, str]], *, persistent: str = "", result: str = "",
    inputs: str = "", workspace: tuple[int, ...] = (), random: str = "", rng_state_bytes: int = 0,
) -> TrainingGraph:  # fmt: skip
    """A graph of one-letter storages: each op is (reads, writes, mutates)."""
    names = list(sizes)

    def ids(letters: str) -> tuple[int, ...]:
        return tuple(names.index(letter) for letter in letters)

    return TrainingGraph(
        rng_state_bytes=rng_state_bytes,
        storages=tuple(
            Storage(
                id=i, name=name, size_bytes=sizes[name],
                role=Role.INPUT if name in inputs else Role.ACTIVATION,
                persistent=name in persistent, result=name in result,
            )
            for i, name in enumerate(names)
        ),
        ops=tuple(
            Op(
                id=i, name=str(i), kind="k", phase=Phase.FORWARD, reads=ids(reads),
                writes=ids(writes), mutates=ids(mutates),
                workspace_bytes=workspace[i] if workspace else 0, random=str(i) in random,
            )
            for i, (reads, writes, mutates) in enumerate(ops)
        ),
    )  # fmt: skip


def costs_of(
    graph: TrainingGraph, op_seconds: tuple[float, ...], page_in: float, page_out: float,
    idle_watts: float = 0.0,
) -> Costs:  # fmt: skip
    count = len(graph.storages)
    return Costs(
        op_seconds=op_seconds,
        op_joules=tuple(10 * seconds for seconds in op_seconds),
        page_in_seconds=(page_in,) * count,
        page_in_joules=(page_in / 2,) * count,
        page_out_seconds=(page_out,) * count,
        page_out_joules=(page_out / 4,) * count,
        idle_watts=idle_watts,
    )


def judged(
    graph: TrainingGraph, costs: Costs, *instructions: Instruction, start_ram: tuple[int, ...] = (),
    start_flash: tuple[int, ...] = (), budget: Budget | None = None,
) -> Judgement:  # fmt: skip
    schedule = Schedule(start_ram=start_ram, start_flash=start_flash, instructions=instructions)
    return simulate(graph, costs, budget or Budget(ram_bytes=100, overlap=True), schedule)


# a, b, c: op 0 writes a, op 1 writes b, op 2 reads a and b and writes the result c.
THREE = step({"a": 4, "b": 2, "c": 1}, [("", "a", ""), ("", "b", ""), ("ab", "c", "")], result="c")
A, B, C = range(3)
PAGED = (run(0), out(A), run(1), free(A), bring(A), run(2), free(A), free(B))


class TestClocks:
    def test_a_transfer_hides_behind_compute(self) -> None:
        """T: run0 ends 1; out ends D = 4; run1 ends T = 11; free a at 11; in ends D = 13;
        run2 waits until 13 and ends at 18."""
        costs = costs_of(THREE, (1.0, 10.0, 5.0), page_in=2.0, page_out=3.0)
        assert judged(THREE, costs, *PAGED).step_seconds == 18

    def test_without_overlap_everything_adds_up(self) -> None:
        """1 + 3 + 10 + 2 + 5."""
        costs = costs_of(THREE, (1.0, 10.0, 5.0), page_in=2.0, page_out=3.0)
        assert judged(THREE, costs, *PAGED, budget=Budget(ram_bytes=9)).step_seconds == 21

    def test_a_free_waits_for_the_page_out(self) -> None:
        """run0 ends 1, out ends 31, run1 ends 2, free waits until 31, in ends 33, run2 ends 38."""
        costs = costs_of(THREE, (1.0, 1.0, 5.0), page_in=2.0, page_out=30.0)
        assert judged(THREE, costs, *PAGED).step_seconds == 38

    def test_a_free_waits_for_the_page_in_that_nobody_used(self) -> None:
        """run0 1, out ends 4, free at 4, in ends 24, free waits: run1 starts at 24, ends 34."""
        costs = costs_of(THREE, (1.0, 10.0, 5.0), page_in=20.0, page_out=3.0)
        instructions = (run(0), out(A), free(A), bring(A), free(A), run(1), run(0), run(2),
                        free(A), free(B))  # fmt: skip
        assert judged(THREE, costs, *instructions).step_seconds == 24 + 10 + 1 + 5

    def test_the_step_ends_after_its_last_transfer(self) -> None:
        """w begins in RAM and flash, is updated at 1, and its page_out ends at 8."""
        graph = step({"w": 4}, [("", "", "w")], persistent="w")
        costs = costs_of(graph, (1.0,), page_in=1.0, page_out=7.0)
        figures = judged(graph, costs, run(0), out(0), start_ram=(0,), start_flash=(0,))
        assert figures.step_seconds == 8

    def test_a_mutation_waits_for_the_page_out_of_the_old_version(self) -> None:
        """out ends 7 and holds back the op that changes w: 7 + 1; its new copy ends at 15."""
        graph = step({"w": 4}, [("", "", "w")], persistent="w")
        costs = costs_of(graph, (1.0,), page_in=1.0, page_out=7.0)
        figures = judged(graph, costs, out(0), run(0), out(0), start_ram=(0,))
        assert figures.step_seconds == 15

    def test_a_read_does_not_wait_for_a_page_out(self) -> None:
        """out ends 1 + 30; run2 reads a at once and ends at 7; freeing a waits until 31."""
        costs = costs_of(THREE, (1.0, 1.0, 5.0), page_in=2.0, page_out=30.0)
        instructions = (run(0), out(A), run(1), run(2), free(A), free(B))
        assert judged(THREE, costs, *instructions).step_seconds == 31
        assert judged(THREE, costs, run(0), run(1), run(2), free(A), free(B)).step_seconds == 7

    def test_a_write_waits_for_the_arrival_of_what_it_overwrites(self) -> None:
        """w comes in until 9; the op that overwrites it starts then and ends at 10."""
        graph = step({"w": 4}, [("", "w", "")], persistent="w")
        costs = costs_of(graph, (1.0,), page_in=9.0, page_out=1.0)
        figures = judged(graph, costs, bring(0), run(0), out(0), free(0), start_flash=(0,))
        assert figures.step_seconds == 11

    def test_transfers_queue_up(self) -> None:
        """run0 1, run1 2; out a ends 5, out b ends 8; run2 3 + 4 = 7 hides in them."""
        costs = costs_of(THREE, (1.0, 1.0, 5.0), page_in=2.0, page_out=3.0)
        instructions = (run(0), run(1), out(A), out(B), run(2), free(A), free(B))
        assert judged(THREE, costs, *instructions).step_seconds == 8


def test_energy_is_runs_transfers_and_idle_power() -> None:
    """Runs 10 x 16 J, out 3/4 J, in 2/2 J, idle 2 W x 18 s."""
    costs = costs_of(THREE, (1.0, 10.0, 5.0), page_in=2.0, page_out=3.0, idle_watts=2.0)
    figures = judged(THREE, costs, *PAGED)
    assert figures.energy_joules == 160 + 0.75 + 1 + 36
    assert (figures.compute_runs, figures.transfer_count) == (3, 2)


class TestMemory:
    COSTS = costs_of(THREE, (1.0, 1.0, 1.0), page_in=1.0, page_out=1.0)

    def test_every_instruction_has_its_bytes(self) -> None:
        figures = judged(THREE, self.COSTS, *PAGED)
        assert figures.memory_bytes == (4, 4, 6, 2, 6, 7, 3, 1)
        assert (figures.initial_bytes, figures.peak_bytes, figures.peak_instruction) == (0, 7, 5)

    def test_alignment_and_reserved_bytes(self) -> None:
        """Blocks of 4: a 4, b 4, c 4, and 3 reserved bytes as they are."""
        budget = Budget(ram_bytes=15, reserved_bytes=3, alignment_bytes=4)
        figures = judged(THREE, self.COSTS, *PAGED, budget=budget)
        assert figures.memory_bytes == (7, 7, 11, 7, 11, 15, 11, 7)

    def test_a_write_that_is_resident_counts_twice(self) -> None:
        """run0 again while a is in RAM: 4 + 2 + 4."""
        figures = judged(THREE, self.COSTS, run(0), run(1), run(0), run(2), free(A), free(B))
        assert figures.memory_bytes == (4, 6, 10, 7, 3, 1)

    def test_workspace_counts_while_its_op_runs(self) -> None:
        graph = step(
            {"a": 4, "b": 2}, [("", "a", ""), ("a", "b", "")], result="b", workspace=(5, 0)
        )
        costs = costs_of(graph, (1.0, 1.0), page_in=1.0, page_out=1.0)
        budget = Budget(ram_bytes=100, alignment_bytes=4)
        figures = judged(graph, costs, run(0), run(1), free(0), budget=budget)
        assert figures.memory_bytes == (4 + 8, 8, 4)

    def test_the_state_of_a_replayed_random_op_counts_from_its_first_to_its_last_run(self) -> None:
        graph = step({"a": 4, "b": 2}, [("", "a", ""), ("a", "b", "")], result="b", random="0",
                     rng_state_bytes=3)  # fmt: skip
        costs = costs_of(graph, (1.0, 1.0), page_in=1.0, page_out=1.0)
        budget = Budget(ram_bytes=100, alignment_bytes=2)
        twice = judged(graph, costs, run(0), free(0), run(0), run(1), free(0), budget=budget)
        assert twice.memory_bytes == (4 + 4, 4, 4 + 4, 6, 2)
        once = judged(graph, costs, run(0), run(1), free(0), budget=budget)
        assert once.memory_bytes == (4, 6, 2)

    def test_inputs_are_there_at_the_start_and_can_be_freed(self) -> None:
        graph = step({"x": 9, "a": 1}, [("x", "a", "")], inputs="x", result="a")
        costs = costs_of(graph, (1.0,), page_in=1.0, page_out=1.0)
        figures = judged(graph, costs, run(0), free(0))
        assert (figures.initial_bytes, figures.memory_bytes) == (9, (10, 1))


class TestFlash:
    COSTS = costs_of(THREE, (1.0, 1.0, 1.0), page_in=1.0, page_out=1.0)

    def test_a_copy_lives_from_its_page_out_to_its_last_page_in(self) -> None:
        """a (4 bytes) is in flash until its page_in, then b (2): never both."""
        instructions = (run(0), run(1), out(A), free(A), bring(A), out(B), free(B), bring(B), run(2),
                        free(A), free(B))  # fmt: skip
        figures = judged(THREE, self.COSTS, *instructions)
        assert (figures.flash_peak_bytes, figures.flash_bytes_written) == (4, 6)

    def test_a_copy_that_comes_back_twice_lives_until_the_second_time(self) -> None:
        instructions = (run(0), run(1), out(A), free(A), bring(A), out(B), free(A), bring(A), run(2),
                        free(A), free(B))  # fmt: skip
        assert judged(THREE, self.COSTS, *instructions).flash_peak_bytes == 6

    def test_a_copy_that_never_comes_back_lives_for_a_moment(self) -> None:
        instructions = (run(0), run(1), out(A), out(B), run(2), free(A), free(B))
        assert judged(THREE, self.COSTS, *instructions).flash_peak_bytes == 4

    def test_a_persistent_storage_holds_its_place_all_step(self) -> None:
        graph = step({"w": 5, "a": 3}, [("w", "a", ""), ("a", "", "w")], persistent="w")
        costs = costs_of(graph, (1.0, 1.0), page_in=1.0, page_out=1.0)
        early = (run(0), out(1), free(1), bring(1), run(1), free(1))
        alone = judged(graph, costs, *early, start_ram=(0,))
        assert (alone.flash_peak_bytes, alone.flash_bytes_written) == (3, 3)
        written = judged(graph, costs, *early, out(0), start_ram=(0,))
        assert (written.flash_peak_bytes, written.flash_bytes_written) == (8, 8)

    def test_flash_is_not_aligned(self) -> None:
        budget = Budget(ram_bytes=100, alignment_bytes=16)
        assert judged(THREE, self.COSTS, *PAGED, budget=budget).flash_peak_bytes == 4


class TestVersions:
    GRAPH = step({"w": 2, "a": 1, "b": 1}, [("w", "a", ""), ("a", "", "w"), ("w", "b", "")],
                 persistent="w", result="b")  # fmt: skip
    COSTS = costs_of(GRAPH, (1.0, 1.0, 1.0), page_in=1.0, page_out=1.0)

    def test_a_zero_byte_storage_orders_the_ops_that_name_it(self) -> None:
        graph = step({"t": 0, "a": 1, "b": 1}, [("", "ta", ""), ("t", "b", "")], result="ab")
        costs = costs_of(graph, (1.0, 1.0), page_in=1.0, page_out=1.0)
        assert judged(graph, costs, run(0), run(1)).peak_bytes == 2
        with pytest.raises(Exception, match="needs storage 0 in RAM"):
            judged(graph, costs, run(1), run(0))

    def test_a_zero_byte_storage_must_end_at_its_last_version(self) -> None:
        """Both ops write t; the first runs again at the end and leaves its own version."""
        writers = [("", "t", ""), ("", "t", "")]
        for kind in ({"persistent": "t"}, {"result": "t"}):
            graph = step({"t": 0}, writers, **kind)
            costs = costs_of(graph, (1.0, 1.0), page_in=1.0, page_out=1.0)
            judged(graph, costs, run(0), run(1))
            with pytest.raises(PlanError) as caught:
                judged(graph, costs, run(0), run(1), run(0))
            assert caught.value.code == "old_version_in_ram"
        scratch = step({"t": 0}, writers)
        judged(scratch, costs, run(0), run(1), run(0))

    def test_an_old_version_may_come_back_where_the_rules_allow_it(self) -> None:
        """w0 goes to flash; after the update w1 is dropped, w0 returns, op 0 and 1 run again."""
        instructions = (run(0), out(0), run(1), free(0), free(1), bring(0), run(0), run(1), run(2),
                        free(1))  # fmt: skip
        figures = judged(self.GRAPH, self.COSTS, *instructions, start_ram=(0,))
        assert figures.compute_runs == 5

    def test_a_storage_may_begin_in_flash_only(self) -> None:
        instructions = (bring(0), run(0), run(1), free(1), run(2), out(0), free(0))
        figures = judged(self.GRAPH, self.COSTS, *instructions, start_flash=(0,))
        assert (figures.initial_bytes, figures.flash_peak_bytes) == (0, 2)

    def test_the_step_is_a_cycle(self) -> None:
        """The end of the step is a valid start of the next: same place, same bytes."""
        instructions = (bring(0), run(0), run(1), free(1), run(2), out(0), free(0))
        figures = judged(self.GRAPH, self.COSTS, *instructions, start_flash=(0,))
        result_bytes = 1
        assert figures.memory_bytes[-1] == figures.initial_bytes + result_bytes


def test_the_peak_is_the_first_of_equals() -> None:
    costs = costs_of(THREE, (1.0, 1.0, 1.0), page_in=1.0, page_out=1.0)
    figures = judged(THREE, costs, run(0), out(A), run(1), run(2), free(B), out(C), free(A))
    assert (figures.peak_bytes, figures.peak_instruction) == (7, 3)


def test_limits_may_be_met_exactly() -> None:
    costs = costs_of(THREE, (1.0, 10.0, 5.0), page_in=2.0, page_out=3.0)
    budget = Budget(
        ram_bytes=7, overlap=True, flash_bytes=4, flash_write_bytes=4, step_seconds=18.0,
        energy_joules=161.75,
    )  # fmt: skip
    figures = judged(THREE, costs, *PAGED, budget=budget)
    assert figures.claims.step_seconds == 18
    for name in ("ram_bytes", "flash_bytes", "flash_write_bytes", "step_seconds", "energy_joules"):
        with pytest.raises(Exception, match="over"):
            judged(
                THREE, costs, *PAGED, budget=replace(budget, **{name: getattr(budget, name) - 1})
            )


def test_instruction_kinds_are_the_four_of_the_document() -> None:
    assert {str(kind) for kind in Do} == {"compute", "page_out", "page_in", "free"}
