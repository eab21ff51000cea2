"""Every address of the service under requests that nobody thought of (attack.py)."""

from pathlib import Path

import pytest

from tests.service.fuzz.attack import attack, attack_thrice, quick_service, tell


def test_a_few_hundred_requests(tmp_path: Path) -> None:
    with quick_service(tmp_path / "state") as address:
        cases = attack(
            address, tmp_path, "--phases", "examples,fuzzing,stateful", "--seed", "6",
            "--max-examples", "20",
        )  # fmt: skip
        told = tell(address)
    assert cases >= 300
    assert told.total >= 300
    told.check()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_requests_leave_nothing_behind(tmp_path: Path) -> None:
    cases, told, grown_bytes = attack_thrice(tmp_path)
    assert sum(cases) >= 10_000
    told.check()
    # Memory may breathe, not grow.
    assert grown_bytes < 32 * 2**20
