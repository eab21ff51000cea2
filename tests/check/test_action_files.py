"""The Action's and the workflows' files: what runs with which rights, and no text becomes a script."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = [ROOT / "action.yml", ROOT / "action" / "comment" / "action.yml"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def loaded(path):
    # YAML 1.1 reads the key `on` as true.
    return {
        "on" if key is True else key: value
        for key, value in yaml.safe_load(path.read_text()).items()
    }


def steps(path):
    document = loaded(path)
    if "runs" in document:
        return document["runs"]["steps"]
    return [step for job in document["jobs"].values() for step in job["steps"]]


def documented():
    """The workflows in docs/check.md, which people copy."""
    text = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    "path", [*ACTIONS, *WORKFLOWS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_expression_is_put_into_a_script(path):
    ran = [step["run"] for step in steps(path) if "run" in step]
    assert ran or path.name == "comment.yml"
    assert [text for text in ran if "${{" in text] == []


@pytest.mark.parametrize(
    "path", [*ACTIONS, *WORKFLOWS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_others_wrote_is_pinned_by_commit(path):
    used = [step["uses"] for step in steps(path) if "uses" in step]
    others = [name for name in used if not name.startswith("./")]
    assert [name for name in others if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_gives_a_pull_request_rights(path):
    document = loaded(path)
    assert "pull_request_target" not in path.read_text()
    assert "permissions" in document
    assert "write-all" not in path.read_text()
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 60
    if "pull_request" in document["on"]:
        rights = [
            document["permissions"],
            *(j.get("permissions", {}) for j in document["jobs"].values()),
        ]
        assert {right for one in rights for right in one.values()} <= {"read"}


def test_the_checking_and_the_commenting_workflow_know_each_other():
    check, comment = (
        loaded(ROOT / ".github" / "workflows" / f"{name}.yml") for name in ("check", "comment")
    )
    assert comment["on"]["workflow_run"]["workflows"] == [check["name"]]
    [job] = comment["jobs"].values()
    assert comment["permissions"] == {}
    assert job["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    [checkout] = [
        step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout")
    ]
    assert "ref" not in checkout["with"]  # the default branch, and never the pull request's
    names = [loaded(path)["inputs"] for path in ACTIONS]
    assert names[0]["upload-name"]["default"] == names[1]["artifact"]["default"]


def test_checkouts_leave_no_token_behind():
    for path in WORKFLOWS:
        for step in steps(path):
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


def test_every_input_of_the_action_reaches_its_script():
    text = (ROOT / "action" / "run.py").read_text()
    document = loaded(ACTIONS[0])
    given = document["runs"]["steps"][0]["env"]
    for name in given.keys() - {"POET_ACTION", "POET_PYTHON"}:
        assert f'"{name}"' in text
    used = set(re.findall(r"inputs\.([a-z-]+)", ACTIONS[0].read_text()))
    assert used == set(document["inputs"])
    outputs = re.findall(r"steps\.check\.outputs\.([a-z-]+)", ACTIONS[0].read_text())
    assert set(outputs) == set(document["outputs"])
    assert [name for name in set(outputs) if f'"{name}"' not in text] == []


def test_documented_workflows_hold_to_the_same(tmp_path):
    snippets = documented()
    assert len(snippets) >= 3
    assert "pull_request_target:" not in "".join(snippets)
    for text in snippets:
        document = yaml.safe_load(text)
        scripts = re.findall(r"^\s*-?\s*run: (.*)$", text, re.MULTILINE)
        assert document
        assert [script for script in scripts if "${{" in script] == []
