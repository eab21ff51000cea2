"""Every command of `poet` with its sentence, in the order of `poet --help`.

Invariant: a sentence here is the first one of the command's own help (a test compares them), so that
`poet --help` and completion import no command. The command NAME is the object of that name in
`poet_cli.commands.NAME`, with `_` for `-`.
"""

from __future__ import annotations

SECTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "From a model to a plan",
        (
            ("trace", "Trace a training step: forward, backward and update, as a graph."),
            ("plan", "Plan a traced step inside a device's RAM."),
            ("verify", "Judge a plan: every instruction, every byte, and what the plan claims."),
            ("show", "Show a plan: memory over program order, its peak, and what is in RAM there."),
        ),
    ),
    (
        "How much, how little",
        (
            ("frontier", "Plan a step at many RAM budgets: what does less RAM cost?"),
            ("least-ram", "Find the least RAM whose plan costs at most so much more."),
            ("max-batch", "Find the largest batch whose training step fits."),
            ("addresses", "Give everything that a plan holds in RAM an address in one arena."),
        ),
    ),
    (
        "In CI",
        (("check", "Check that models fit devices: the gate in CI."),),
    ),
    (
        "Training",
        (("train", "Train some steps inside the RAM of a plan."),),
    ),
    (
        "This machine, and devices",
        (
            ("devices", "The devices that plans can be made for."),
            ("doctor", "Say what is installed here, what that costs, and how to mend it."),
            ("completion", "Print the script that completes `poet` in your shell."),
        ),
    ),
    (
        "A planning service",
        (
            ("serve", "Answer planning requests over HTTP."),
            ("jobs", "See and stop what a service works on for you."),
            ("tokens", "API tokens of the service whose database this is."),
            ("worker", "Take solves from a queue in PostgreSQL and run them."),
        ),
    ),
)

SENTENCES: dict[str, str] = {name: text for _, rows in SECTIONS for name, text in rows}
