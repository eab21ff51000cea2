"""The import contracts hold for this tree, and each of them bites: a planted import breaks the contract that forbids it."""

import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.outside import REPOSITORY, run

CONFIGURATION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
ROOT_PACKAGES = CONFIGURATION["tool"]["importlinter"]["root_packages"]
CONTRACTS = {item["name"] for item in CONFIGURATION["tool"]["importlinter"]["contracts"]}
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
# An editable install answers for its packages before any path is asked, so its finder must not see planted ones.
LINT_PLANTED = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
from importlinter.cli import lint_imports_command
lint_imports_command()
"""

# (who, what it must not import, the start of the name of the contract that says so)
FORBIDDEN = [
    ("poet_core.graph", "poet_solvers", "The house"),
    ("poet_solvers.greedy", "poet_client", "The house"),
    ("poet_runtime.train_step", "projection_nets", "The house"),
    ("poet_service.app", "poet_cli", "The house"),
    ("device_profiles.loader", "poet_core", "The house"),
    ("poet_cli.main", "examples", "The house"),
    ("poet_service.app", "poet_runtime", "The service plans by itself"),
    ("poet_service.app", "poet_client", "The service plans by itself"),
    ("projection_nets.trainers", "poet_solvers", "ProjectionNets train"),
    ("poet_core.simulate", "pulp", "The judge"),
    ("poet_core.documents", "pydantic", "The core"),
    ("poet_solvers.greedy", "torch", "Torch stays"),
    ("poet_service.app", "torch", "Torch stays"),
    ("poet_runtime.train_step", "pulp", "PuLP and the solvers"),
    ("poet_cli.main", "highspy", "PuLP and the solvers"),
    ("poet_solvers.greedy", "pydantic", "FastAPI and pydantic"),
    ("poet_runtime.train_step", "rich", "The solvers and the client"),
]


def test_every_contract_holds_for_this_tree() -> None:
    result = run(LINT_IMPORTS, cwd=REPOSITORY, PYTHONPATH="solvers")
    assert result.returncode == 0, result.stdout + result.stderr


def plant_packages(folder: Path, *modules: str) -> None:
    """Every root package, with empty modules: those named, and those that the contracts name."""
    sections = CONFIGURATION["tool"]["importlinter"]["contracts"]
    sources = {module for section in sections for module in section.get("source_modules", [])}
    for name in {*ROOT_PACKAGES, *sources, *modules}:
        package, _, module = name.partition(".")
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").touch()
        (folder / package / f"{module or '__init__'}.py").touch()


@pytest.mark.parametrize(("who", "what", "contract"), FORBIDDEN)
def test_an_import_inside_a_function_breaks_the_contract(
    who: str, what: str, contract: str, tmp_path: Path
) -> None:
    plant_packages(tmp_path, who)
    package, _, module = who.partition(".")
    planted = tmp_path / package / f"{module}.py"
    planted.write_text(f"def later():\n    import {what}\n", encoding="utf-8")

    lint = (sys.executable, "-c", LINT_PLANTED, "--no-cache")
    result = run(*lint, "--config", REPOSITORY / "pyproject.toml", cwd=tmp_path)

    broken = {name for name in CONTRACTS if f"{name} BROKEN" in " ".join(result.stdout.split())}
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(name.startswith(contract) for name in broken), result.stdout


def test_every_contract_is_broken_by_some_case() -> None:
    starts = {contract for _, _, contract in FORBIDDEN}
    assert {name for name in CONTRACTS if not name.startswith(tuple(starts))} == set()
