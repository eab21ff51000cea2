"""Every status that a solver can report is mapped, and the mapping believes nothing by halves."""

import importlib
import subprocess
from pathlib import Path

import highspy
import pytest

from poet_solvers.backends import SolveStatus, cbc, gurobi, highs, solve_model
from poet_solvers.backends.process import ProcessEnd, ProcessResult
from tests.solvers.models import knapsack

# GRB.Status of Gurobi 13, for machines without gurobipy.
GUROBI_STATUSES = {
    "LOADED",
    "OPTIMAL",
    "INFEASIBLE",
    "INF_OR_UNBD",
    "UNBOUNDED",
    "CUTOFF",
    "ITERATION_LIMIT",
    "NODE_LIMIT",
    "TIME_LIMIT",
    "SOLUTION_LIMIT",
    "INTERRUPTED",
    "NUMERIC",
    "SUBOPTIMAL",
    "INPROGRESS",
    "USER_OBJ_LIMIT",
    "WORK_LIMIT",
    "MEM_LIMIT",
    "LOCALLY_OPTIMAL",
    "LOCALLY_INFEASIBLE",
}

POINT = "      0 x0                     1                       0\n"


def test_every_status_has_its_own_sentence():
    sentences = [status.sentence for status in SolveStatus]
    assert len(set(sentences)) == len(SolveStatus)
    assert all(sentence.endswith(".") and len(sentence) > 30 for sentence in sentences)


def test_highs_statuses_are_all_mapped():
    assert set(highs.MODEL_STATUSES) == set(highspy.HighsModelStatus.__members__)


def test_gurobi_statuses_are_all_mapped():
    assert set(gurobi.MODEL_STATUSES) == GUROBI_STATUSES


def test_gurobi_statuses_are_those_of_an_installed_gurobi():
    if importlib.util.find_spec("gurobipy") is None:
        pytest.skip("gurobipy is not installed")
    codes = importlib.import_module("gurobipy").GRB.Status
    assert set(gurobi.MODEL_STATUSES) == {name for name in dir(codes) if name.isupper()}


def test_cbc_statuses_are_all_in_the_binary_that_says_them():
    """The tables name nothing that this CBC cannot say, and every "Stopped on" that it can."""
    binary = Path(cbc._binary()).read_bytes()
    for words in cbc.SOLUTION_STATUSES:
        assert words.removesuffix(" (within gap tolerance)").encode() in binary, words
    for words in cbc.RESULT_STATUSES:
        assert words.removeprefix("Stopped on ").encode() in binary, words
    texts = {text for text in binary.split(b"\0") if text.startswith(b"Stopped on ")}
    whole = {text.decode() for text in texts if b"objective" not in text} - {"Stopped on "}
    assert whole == {word for word in cbc.SOLUTION_STATUSES if word.startswith("Stopped on ")}


@pytest.mark.parametrize("words", cbc.SOLUTION_STATUSES)
@pytest.mark.parametrize("point", [True, False])
def test_cbc_solution_headers(words, point, tmp_path):
    note = "" if point else " (no integer solution - continuous used)"
    answer = _read_cbc(tmp_path, f"{words}{note} - objective value 3.0\n{POINT}", log="")
    expected = cbc.SOLUTION_STATUSES[words]
    if expected is SolveStatus.FEASIBLE and not point:
        expected = SolveStatus.NOT_FOUND
    assert answer.status is expected
    assert (answer.point is not None) == expected.has_solution


@pytest.mark.parametrize(
    ("header", "result", "expected"),
    [
        ("Optimal", "Optimal solution found", SolveStatus.OPTIMAL),
        ("Optimal", "Stopped on time limit", SolveStatus.FEASIBLE),
        ("Infeasible", "Stopped on time limit", SolveStatus.NOT_FOUND),
        ("Integer infeasible", "Problem proven infeasible", SolveStatus.INFEASIBLE),
        ("Optimal", "Run abandoned", SolveStatus.FAILED),
        ("Optimal", "Something new", SolveStatus.FAILED),
    ],
)
def test_cbc_claims_need_its_file_and_its_log(header, result, expected, tmp_path):
    note = " (no integer solution - continuous used)" if "nfeasible" in header else ""
    text = f"{header}{note} - objective value 3.0\n{POINT}"
    assert _read_cbc(tmp_path, text, log=f"\nResult - {result}\n").status is expected


def test_cbc_solution_text_is_read_by_column():
    body = "**      0 x7   2.5   0\n      1 r0  9 9\n      3 x12   -1e-3    4\nrubbish\n"
    assert cbc._point(body) == {7: 2.5, 12: -1e-3}


def test_cbc_bounds_are_read_from_its_log():
    assert cbc._bound_in("Lower bound:                    -12.500\n") == -12.5
    log = "Cbc0010I After 9 nodes, 5 on tree, 1e+50 best solution, best possible 42.5 (0.1 seconds)"
    assert cbc._bound_in(log) == 42.5
    assert cbc._bound_in("best possible -1e+50 (0.1 seconds)") is None
    assert cbc._bound_in("") is None


def test_an_unknown_cbc_header_a_cut_off_file_and_no_file_are_failures(tmp_path):
    assert (
        _read_cbc(tmp_path, "Splendid - objective value 3\n", log="").status is SolveStatus.FAILED
    )
    assert _read_cbc(tmp_path, "Optimal - objective", log="").status is SolveStatus.FAILED
    assert _read_cbc(tmp_path, None, log="").status is SolveStatus.FAILED


@pytest.mark.parametrize(
    ("exit_status", "log", "expected"),
    [
        (134, "terminate called after throwing an instance of 'std::bad_alloc'", "MEMORY"),
        (137, "", "MEMORY"),
        (1, "MemoryError", "MEMORY"),
        (139, "", "FAILED"),
        (143, "", "FAILED"),
        (1, "ImportError: no module named highspy", "FAILED"),
    ],
)
def test_a_solver_that_left_nothing_ran_out_of_memory_or_crashed(
    exit_status, log, expected, tmp_path
):
    process = ProcessResult(end=ProcessEnd.EXITED, exit_status=exit_status, log=log)
    for adapter in (cbc.CbcAdapter(), highs.HighsAdapter(), gurobi.GurobiAdapter()):
        assert adapter.read(tmp_path, process).status is SolveStatus[expected]


@pytest.mark.parametrize(
    ("exit_status", "peak_bytes", "cap_bytes", "expected"),
    [
        (139, 60, 100, "MEMORY"),
        (134, None, 100, "MEMORY"),
        (139, 40, 100, "FAILED"),
        (139, 60, None, "FAILED"),
        (1, 60, 100, "MEMORY"),
        (0, 60, 100, "FAILED"),
    ],
)
def test_a_crash_close_to_the_cap_is_for_want_of_memory(
    exit_status, peak_bytes, cap_bytes, expected, tmp_path
):
    process = ProcessResult(
        end=ProcessEnd.EXITED,
        exit_status=exit_status,
        log="",
        peak_memory_bytes=peak_bytes,
        cap_bytes=cap_bytes,
    )
    assert cbc.CbcAdapter().read(tmp_path, process).status is SolveStatus[expected]


def test_a_killed_cbc_is_not_found_whatever_its_half_written_file_says(tmp_path):
    (tmp_path / "solution.txt").write_text(f"Optimal - objective value 3\n{POINT}")
    process = ProcessResult(
        end=ProcessEnd.KILLED_AT_LIMIT, exit_status=200, log="Lower bound:   2.5\n"
    )
    answer = cbc.CbcAdapter().read(tmp_path, process)
    assert (answer.status, answer.point, answer.bound) == (SolveStatus.NOT_FOUND, None, 2.5)


@pytest.mark.parametrize("adapter", [highs.HighsAdapter(), gurobi.GurobiAdapter()])
def test_a_solver_killed_at_its_limit_is_not_found_and_no_failure(adapter, tmp_path):
    killed = ProcessResult(end=ProcessEnd.KILLED_AT_LIMIT, exit_status=200, log="")
    assert adapter.read(tmp_path, killed).status is SolveStatus.NOT_FOUND


def test_infeasible_or_unbounded_is_told_apart_by_the_models_own_bounds(monkeypatch):
    """CBC's preprocessing does not look which it is, and its solution file then says infeasible."""
    text = "Integer infeasible - objective value 1.0\n"
    answer = cbc._answer(text, "Pre-processing says infeasible or unbounded\n")
    assert (answer.status, answer.or_infeasible) == (SolveStatus.UNBOUNDED, True)
    monkeypatch.setattr(cbc.CbcAdapter, "read", lambda *_arguments: answer)
    bounded = knapsack(weights=[1, 1], values=[1.0, 1.0], capacity=1)
    assert solve_model(bounded).status is SolveStatus.INFEASIBLE
    bounded.variables()[0].upBound = None
    assert solve_model(bounded).status is SolveStatus.UNBOUNDED


def test_an_answer_that_breaks_the_model_is_a_failure(monkeypatch):
    """Whatever a solver says: a point is checked row by row before anyone sees it."""
    lie = cbc.Answer(status=SolveStatus.OPTIMAL, message="", point={0: 1.0, 1: 1.0}, bound=2.0)
    monkeypatch.setattr(cbc.CbcAdapter, "read", lambda *_arguments: lie)
    problem = knapsack(weights=[1, 1], values=[1.0, 1.0], capacity=1)
    result = solve_model(problem)
    assert result.status is SolveStatus.FAILED
    assert "row" in result.message
    assert (result.objective, result.bound, result.values) == (None, None, {})


def _read_cbc(folder: Path, solution: str | None, *, log: str) -> cbc.Answer:
    if solution is None:
        (folder / "solution.txt").unlink(missing_ok=True)
    else:
        (folder / "solution.txt").write_text(solution)
    process = ProcessResult(end=ProcessEnd.EXITED, exit_status=0, log=log)
    return cbc.CbcAdapter().read(folder, process)


def test_the_bundled_cbc_answers_its_version():
    said = subprocess.run([cbc._binary(), "-quit"], capture_output=True, text=True, check=False)
    assert f"Version: {cbc.CbcAdapter().version()} " in said.stdout
