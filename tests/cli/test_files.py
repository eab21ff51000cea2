"""What a command reads or did not write is not written over."""

import pytest

RAM = ("--device", "mkr1000")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "graph.json", *RAM, "-o", "graph.json"),
        ("plan", "graph.json", *RAM, "--write-lp", "./graph.json"),
        ("least-ram", "graph.json", *RAM, "--overhead", "5%", "-o", "graph.json"),
        ("frontier", "graph.json", *RAM, "-o", "graph.json"),
        ("frontier", "graph.json", *RAM, "--plot", "graph.json"),
        ("show", "graph.json", "tight.json", "--html", "tight.json"),
    ],
)
def test_an_input_is_never_written_over(poet, documents, arguments):
    (documents / "tight.json").touch()
    before = (documents / "graph.json").read_bytes()
    result = poet(*arguments, "--json")
    assert result.code == 2
    assert result.json["error"]["code"] == "output_is_input"
    assert result.json["error"]["hint"]
    assert (documents / "graph.json").read_bytes() == before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_file_that_is_no_store_stays_as_it_is(poet, documents, resume):
    notes = documents / "notes.md"
    notes.write_text("# Mine\n\nNot a frontier.\n")
    asked = ("frontier", "graph.json", *RAM, "--points", "2", "--seconds", "0.2", "--jobs", "1")
    result = poet(*asked, "-o", "notes.md", *resume, "--json")
    assert result.code == 2
    assert result.json["error"]["code"] == "store_foreign"
    assert notes.read_text() == "# Mine\n\nNot a frontier.\n"
    notes.write_text('{"schema": "po')  # a store that was killed in its first line
    assert poet(*asked, "-o", "notes.md", *resume).code == 0
