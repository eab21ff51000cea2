"""The configuration of `poet check`: what it says, and one clear message for each mistake."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poet_cli.check.entries import Level
from poet_cli.check.settings import MOST_ROWS, load_settings
from poet_core.devices import load_device
from poet_core.errors import PoetError, UsageError

MIB = 1 << 20


@pytest.fixture
def read(tmp_path, monkeypatch):
    """read(text) -> settings of a poet-check.toml with that text."""
    monkeypatch.chdir(tmp_path)

    def call(text, name="poet-check.toml"):
        Path(name).write_text(textwrap.dedent(text), encoding="utf-8")
        return load_settings(Path.cwd())

    return call


def refused(read, text, **others):
    with pytest.raises(UsageError) as error:
        read(text, **others)
    return error.value


ONE = """\
    [[entry]]
    step = "models.keyword:step"
    device = "nrf52840"
    ram = "256KiB"
"""


def test_an_entry_is_read_with_its_place_and_defaults(read):
    found = read(ONE)
    (entry,) = found.entries
    assert (entry.step, entry.device, entry.ram_bytes) == ("models.keyword:step", "nrf52840", 2**18)
    assert (str(entry.place.file), entry.place.line) == ("poet-check.toml", 1)
    assert entry.name == "keyword on nrf52840"
    assert (entry.batch_size, entry.level, entry.undecided) == (None, Level.ERROR, Level.ERROR)
    assert found.trace_seconds == 300


def test_every_key_is_read(read):
    (entry,) = read("""\
        trace_timeout = 30
        trace_memory = "8GiB"

        [[entry]]
        name = "kw"
        step = "a.b:make"
        device = "jetson-tx2"
        ram = "1.5GB"
        batch_size = 8
        max_time = "1.2x"
        max_energy = "250 mJ"
        seconds = 3
        level = "warn"
        undecided = "warn"
        page = false
        rematerialize = false
    """).entries
    assert entry.name == "kw"
    assert entry.ram_bytes == 1_500_000_000
    assert entry.batch_size == 8
    assert entry.max_time.ratio == 1.2
    assert entry.max_time.value(10.0) == 12.0
    assert entry.max_energy.absolute == 0.25
    assert entry.planner_seconds == 3
    assert entry.level is entry.undecided is Level.WARN
    assert not entry.page
    assert not entry.rematerialize


def test_run_settings_are_read(read):
    found = read('trace_timeout = 30\ntrace_memory = "8GiB"\n' + textwrap.dedent(ONE))
    assert (found.trace_seconds, found.trace_memory_bytes) == (30, 8 << 30)


def test_lists_multiply_out_and_every_row_has_a_name_of_its_own(read):
    found = read("""\
        [[entry]]
        steps = ["models.keyword:step", "models.vision:small"]
        devices = ["nrf52840", "jetson-tx2"]
        batch_sizes = [1, 8]
        ram = {nrf52840 = "200KiB", jetson-tx2 = "1GiB"}
    """)
    assert len(found.entries) == 8
    names = [entry.name for entry in found.entries]
    assert len(set(names)) == 8
    assert names[0] == "keyword batch 1 on nrf52840"
    assert names[-1] == "vision:small batch 8 on jetson-tx2"
    assert {entry.ram_bytes for entry in found.entries if entry.device == "nrf52840"} == {200 << 10}
    assert {entry.ram_bytes for entry in found.entries if entry.device == "jetson-tx2"} == {1 << 30}


def test_defaults_hold_for_every_entry_that_does_not_say_otherwise(read):
    first, second = read("""\
        device = "jetson-tx2"
        ram = "1GiB"
        seconds = 2
        level = "warn"

        [[entry]]
        step = "models:a"

        [[entry]]
        step = "models:b"
        devices = ["nrf52840"]
        ram = "100KiB"
        level = "error"
    """).entries
    assert (first.device, first.ram_bytes, first.level) == ("jetson-tx2", 1 << 30, Level.WARN)
    assert (second.device, second.ram_bytes, second.level) == ("nrf52840", 100 << 10, Level.ERROR)
    assert first.planner_seconds == second.planner_seconds == 2
    assert (first.place.line, second.place.line) == (6, 9)


def test_without_ram_an_entry_gets_all_that_the_device_has(read):
    (entry,) = read('[[entry]]\nstep = "m:s"\ndevice = "nrf52840"\n').entries
    assert entry.ram_bytes == load_device("nrf52840").ram_bytes


def test_pyproject_is_read_and_found_from_below(tmp_path, monkeypatch):
    text = textwrap.dedent(ONE).replace("[[entry]]", "[[tool.poet.check.entry]]")
    (tmp_path / "pyproject.toml").write_text(f"[project]\nname = 'x'\n\n{text}", encoding="utf-8")
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = load_settings(Path.cwd())
    assert str(found.file) == "../../pyproject.toml"
    assert found.folder.resolve() == tmp_path.resolve()
    assert found.entries[0].place.line == 4


def test_a_profile_may_be_a_file_beside_the_configuration(read, tmp_path):
    source = Path("device_profiles/nrf52840.toml")
    text = (Path(__file__).parents[2] / source).read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(
        text.replace('name = "nrf52840"', 'name = "mine"'), encoding="utf-8"
    )
    (entry,) = read('[[entry]]\nstep = "m:s"\ndevice = "mine.toml"\nram = "64KiB"\n').entries
    assert entry.name == "m:s on mine"


MISTAKES = [
    # what is written, its line, what is in the message, what is in the hint, the code
    ('ram = "512"', 4, '"512"', 'ram = "512MiB"', "size_invalid"),
    ("ram = 512", 4, "got 512", 'ram = "512MiB"', "size_invalid"),
    ('ram = "0B"', 4, "at least 1 B", "512MiB", "size_invalid"),
    ('ram = "1GiB"', 4, "256 KiB", 'ram = "262144B"', "ram_above_device"),
    ("ram = [1]", 4, "a list of 1", 'ram = "512MiB"', "size_invalid"),
    ('max_time = "3"', 4, '"3"', 'max_time = "1.05x"', "limit_invalid"),
    ("max_time = 3", 4, "got 3", '"3x" or "3 s"', "limit_invalid"),
    ('max_time = "0.5x"', 4, "at least 1x", "1.05x", "limit_invalid"),
    ('max_energy = "2 s"', 4, '"2 s"', '"2 J"', "limit_invalid"),
    ("seconds = 0", 4, "between 0.1 and 3600", "seconds = 10", "check_settings"),
    ("seconds = nan", 4, "between 0.1 and 3600", "seconds = 10", "check_settings"),
    ("seconds = true", 4, "got true", "seconds = 10", "check_settings"),
    ('level = "fatal"', 4, '"fatal"', '"warn"', "check_settings"),
    ("level = []", 4, "a list of 0", '"warn"', "check_settings"),
    ('page = "yes"', 4, "true or false", "page = true", "check_settings"),
    ("batch_size = 0", 4, "at least 1", "batch_size = 8", "check_settings"),
    ('batch_size = "8"', 4, '"8"', "batch_size = 8", "check_settings"),
    ("batch_sizes = []", 4, "not empty", "batch_size = ...", "check_settings"),
    ("batch_sizes = 8", 4, "not empty", "batch_size = ...", "check_settings"),
    ("max_tiem = 3", 4, "'max_tiem'", "Did you mean max_time?", "check_settings"),
    ('name = ""', 4, "1 to 200", "name =", "check_settings"),
    (f'name = "{"x" * 201}"', 4, "1 to 200", "name =", "check_settings"),
    ('devices = ["nrf52840"]', 4, "both", "Leave one", "check_settings"),
    ('ram = {nrf52841 = "1KiB"}', 4, '"nrf52841"', "nrf52840", "check_settings"),
]


@pytest.mark.parametrize(("written", "line", "message", "hint", "code"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_to_write(
    read, written, line, message, hint, code
):
    text = f'[[entry]]\nstep = "models:step"\ndevice = "nrf52840"\n{written}\n'
    error = refused(read, text)
    assert error.message.startswith(f"poet-check.toml:{line}: ")
    assert message in error.message
    assert hint in error.hint
    assert error.code == code


@pytest.mark.parametrize(
    ("step", "meant"),
    [
        ("examples/mlp.py:step", "examples.mlp:step"),
        ("examples.mlp", "examples.mlp:step"),
        ("examples.mlp.step()", "examples.mlp.step:step"),
    ],
)
def test_a_step_that_is_no_name_is_answered_with_one(read, step, meant):
    error = refused(read, f'[[entry]]\nstep = "{step}"\ndevice = "nrf52840"\n')
    assert f'step = "{meant}"' in error.hint
    assert error.message.startswith("poet-check.toml:2: ")


def test_a_misspelt_device_is_answered_with_the_nearest(read):
    error = refused(read, '[[entry]]\nstep = "m:s"\n\ndevice = "jetson-tx3"\n')
    assert error.message.startswith("poet-check.toml:4: ")
    assert error.hint.startswith('device = "jetson-tx2".')


def test_a_profile_that_is_not_there_is_told(read):
    error = refused(read, '[[entry]]\nstep = "m:s"\ndevice = "profiles/mine.toml"\n')
    assert error.message.startswith("poet-check.toml:3: ")
    assert "mine.toml" in error.message


def test_this_machine_needs_a_budget(read):
    error = refused(read, '[[entry]]\nstep = "m:s"\ndevice = "host"\n')
    assert error.code == "ram_missing"
    assert error.hint == 'ram = "1GiB"'


def test_what_is_missing_is_told(read):
    assert "no step" in refused(read, '[[entry]]\ndevice = "nrf52840"\n').message
    assert "no device" in refused(read, '[[entry]]\nstep = "m:s"\n').message
    assert refused(read, "").code == "check_without_entries"
    error = refused(
        read, '[[entry]]\nstep = "m:s"\ndevices = ["nrf52840", "mkr1000"]\nram = {mkr1000="1KiB"}\n'
    )
    assert "nrf52840 too" in error.message


def test_a_default_that_is_wrong_is_told_at_its_own_line(read):
    error = refused(read, f'\nram = "512"\n{textwrap.dedent(ONE)}'.replace('ram = "256KiB"\n', ""))
    assert error.message.startswith("poet-check.toml:2: ram: ")


def test_two_rows_of_one_name_are_refused(read):
    text = textwrap.dedent(ONE)
    error = refused(read, text + "\n" + text)
    assert error.code == "check_name_twice"
    assert error.message.startswith("poet-check.toml:6: ")
    assert "line 1" in error.message
    assert 'name = "keyword on nrf52840 2"' in error.hint


def test_too_many_rows_are_refused_before_they_are_made(read):
    sizes = ", ".join(map(str, range(1, MOST_ROWS + 2)))
    error = refused(
        read, f'[[entry]]\nstep = "m:s"\ndevice = "nrf52840"\nbatch_sizes = [{sizes}]\n'
    )
    assert error.code == "check_too_many"


def test_what_is_no_toml_is_told_with_its_line(read):
    error = refused(read, "[[entry]]\nram = 512MiB\n")
    assert error.message.startswith("poet-check.toml:2: ")
    assert 'ram = "512MiB"' in error.hint
    with pytest.raises(UsageError):
        read("[" * 5000 + "]" * 5000)
    Path("poet-check.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no UTF-8"):
        load_settings(Path.cwd())


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("poet-check.toml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(PoetError) as error:
        load_settings(Path.cwd())
    assert error.value.code == "document_too_large"


def test_no_configuration_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        load_settings(Path.cwd())
    assert error.value.code == "check_not_configured"
    assert "poet check --init" in error.value.hint


def test_two_configurations_in_one_folder_are_refused_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = textwrap.dedent(ONE)
    Path("poet-check.toml").write_text(text, encoding="utf-8")
    Path("pyproject.toml").write_text(text.replace("[[e", "[[tool.poet.check.e"), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        load_settings(Path.cwd())
    assert error.value.code == "check_configured_twice"
    assert "--config poet-check.toml" in error.value.hint
    for name in ("poet-check.toml", "pyproject.toml"):
        assert load_settings(Path.cwd(), Path(name)).entries


def test_a_pyproject_of_others_above_is_passed_by(tmp_path, monkeypatch):
    (tmp_path / "poet-check.toml").write_text(textwrap.dedent(ONE), encoding="utf-8")
    below = tmp_path / "below"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.other]\nx = 1\n", encoding="utf-8")
    monkeypatch.chdir(below)
    assert str(load_settings(Path.cwd()).file) == "../poet-check.toml"


def test_lines_are_not_found_in_texts_and_comments(read):
    found = read('''\
        # [[entry]]
        [[entry]]
        step = "m:a"
        device = "nrf52840"
        name = """
        [[entry]]
        two lines"""

        [[entry]]  # the second
        step = "m:b"
        device = "nrf52840"
    ''')
    assert [entry.place.line for entry in found.entries] == [2, 9]


def test_entries_in_an_array_have_its_line(read):
    found = read(
        '\nentry = [{step = "m:a", device = "nrf52840"}, {step = "m:b", device = "mkr1000"}]\n'
    )
    assert [entry.place.line for entry in found.entries] == [2, 2]


_VALUES = st.recursive(
    st.none().map(lambda _: "x")
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_KEYS = st.sampled_from(
    ["step", "steps", "device", "devices", "ram", "batch_size", "batch_sizes", "max_time",
     "max_energy", "seconds", "level", "undecided", "page", "rematerialize", "name", "x"]
)  # fmt: skip


@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.dictionaries(_KEYS, _VALUES, max_size=4))
@settings(max_examples=40, deadline=None)
def test_whatever_the_values_are_there_are_entries_or_one_error(defaults, entry):
    from poet_cli.check import settings as module
    from poet_cli.check.settings_file import SettingsFile

    whole = {**defaults, "entry": [{"step": "m:s", "device": "nrf52840", **entry}]}
    file = SettingsFile(path=Path("p.toml"), values=whole, prefix=(), blocks=())
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "find_settings", lambda *_: file)
    told = ""
    try:
        found = load_settings(Path())
    except PoetError as error:
        told, found = error.message, None
    finally:
        patch.undo()
    assert found.entries if found else told
    assert "\n" not in told
