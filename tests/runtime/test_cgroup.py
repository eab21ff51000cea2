"""Memory groups: with the kernel where it lets us, and both interfaces' files by a tree of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poet_core.errors import ReplayError
from poet_runtime.memory import cgroup
from poet_runtime.memory.cgroup import Hierarchy, find_hierarchy, memory_cgroup, run_in_cgroup

MIB = 1 << 20
# Touches its argument's number of MiB, page by page.
TOUCH = "import sys; block = bytearray(int(sys.argv[1]) << 20); print(len(block) >> 20)"


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    try:
        return find_hierarchy()
    except ReplayError as error:
        pytest.skip(error.message)


def touch(megabytes: int) -> list[str]:
    return [sys.executable, "-S", "-c", TOUCH, str(megabytes)]


@pytest.mark.usefixtures("hierarchy")
def test_a_command_within_its_limit_is_counted() -> None:
    ended = run_in_cgroup(touch(100), 200 * MIB)
    assert (ended.exit_status, ended.oom_killed, ended.stdout) == (0, False, "100\n")
    assert ended.peak_bytes is None or 100 * MIB < ended.peak_bytes < 200 * MIB


@pytest.mark.usefixtures("hierarchy")
def test_a_command_beyond_its_limit_is_killed_and_known_to_be() -> None:
    ended = run_in_cgroup(touch(300), 100 * MIB)
    assert ended.exit_status != 0
    assert ended.oom_killed
    assert ended.stdout == ""
    assert ended.peak_bytes is None or ended.peak_bytes <= 100 * MIB


@pytest.mark.usefixtures("hierarchy")
def test_a_failure_of_its_own_is_no_oom() -> None:
    ended = run_in_cgroup([sys.executable, "-S", "-c", "raise SystemExit(3)"], None)
    assert (ended.exit_status, ended.oom_killed) == (3, False)


def test_the_group_is_gone_and_so_is_what_ran_in_it(hierarchy: Hierarchy) -> None:
    with memory_cgroup(100 * MIB, hierarchy=hierarchy) as group:
        sleeper = subprocess.Popen(group.inside(["sleep", "600"]))
        while not group.directory.joinpath("cgroup.procs").read_text():
            assert sleeper.poll() is None
        assert group.usage_bytes() > 0
        assert group.anonymous_bytes() <= group.usage_bytes()
    assert not group.directory.exists()
    assert sleeper.wait(10) == -9


def test_a_timeout_leaves_nothing(hierarchy: Hierarchy) -> None:
    own = f"poet-{os.getpid()}-*"  # other processes come and go meanwhile
    before = set(hierarchy.parent.glob(own))
    with pytest.raises(subprocess.TimeoutExpired):
        run_in_cgroup(["sleep", "600"], 100 * MIB, timeout_seconds=0.5)
    assert set(hierarchy.parent.glob(own)) <= before


def fake_group(parent: Path, version: int, names: list[str]) -> cgroup.MemoryCgroup:
    """A directory with the kernel's files, empty: what is written to them can be read."""
    for name in names:
        (parent / name).write_text("")
    return cgroup.MemoryCgroup(Hierarchy(version=version, parent=parent), parent)


def test_v2_limits_memory_and_forbids_swap(tmp_path: Path) -> None:
    group = fake_group(tmp_path, 2, ["memory.max", "memory.swap.max", "memory.events"])
    group.limit(64 * MIB)
    assert (tmp_path / "memory.max").read_text() == str(64 * MIB)
    assert (tmp_path / "memory.swap.max").read_text() == "0"
    assert group.peak_bytes() is None  # an older kernel
    (tmp_path / "memory.peak").write_text("123\n")
    (tmp_path / "memory.current").write_text("45\n")
    assert (group.peak_bytes(), group.usage_bytes(), group.oom_kills()) == (123, 45, 0)
    (tmp_path / "memory.stat").write_text("anon 42\nfile 3\n")
    assert group.anonymous_bytes() == 42
    assert not group.reset_peak()
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    assert group.oom_kills() == 1


@pytest.mark.parametrize("counts_swap", [True, False])
def test_v1_limits_memory_and_forbids_swap(tmp_path: Path, counts_swap: bool) -> None:
    swap = "memory.memsw.limit_in_bytes" if counts_swap else "memory.swappiness"
    group = fake_group(tmp_path, 1, ["memory.limit_in_bytes", swap])
    group.limit(64 * MIB)
    assert (tmp_path / "memory.limit_in_bytes").read_text() == str(64 * MIB)
    assert (tmp_path / swap).read_text() == (str(64 * MIB) if counts_swap else "0")
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert group.oom_kills() == 2


V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2_MOUNT = "36 31 0:33 / /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw"
CPU_MOUNT = "37 31 0:34 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"


def test_own_group_first_then_those_above() -> None:
    found = list(cgroup._candidates([CPU_MOUNT, V1_MOUNT], ["4:memory:/a/b", "1:cpu:/"]))
    base = Path("/sys/fs/cgroup/memory")
    assert [h.parent for h in found] == [base / "a/b", base / "a", base]
    assert {h.version for h in found} == {1}
    found = list(cgroup._candidates([V2_MOUNT], ["0::/user.slice/me.scope"]))
    base = Path("/sys/fs/cg roup")
    assert [h.parent for h in found] == [base / "user.slice/me.scope", base / "user.slice", base]
    assert {h.version for h in found} == {2}


def test_a_container_sees_its_own_group_as_the_root() -> None:
    mount = V1_MOUNT.replace("0:32 /", "0:32 /docker/abc")
    (first, *_) = cgroup._candidates([mount], ["4:memory:/docker/abc"])
    assert first.parent == Path("/sys/fs/cgroup/memory")


def test_v2_hands_the_controller_down_or_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    assert cgroup._why_not(Hierarchy(version=2, parent=tmp_path)) == ""
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    assert "no memory controller" in cgroup._why_not(Hierarchy(version=2, parent=tmp_path))
    missing = Hierarchy(version=2, parent=tmp_path / "missing")
    assert cgroup._why_not(missing) == "not visible here"


def test_where_none_can_be_made_the_error_has_a_name(tmp_path: Path) -> None:
    missing = Hierarchy(version=1, parent=tmp_path / "missing")
    with pytest.raises(ReplayError) as caught, memory_cgroup(MIB, hierarchy=missing):
        pass
    assert caught.value.code == "no_cgroup"


def test_a_refused_limit_has_a_name_and_leaves_no_group(hierarchy: Hierarchy) -> None:
    with pytest.raises(ReplayError) as caught, memory_cgroup(-5, hierarchy=hierarchy):
        pass
    assert caught.value.code == "cgroup_io"
