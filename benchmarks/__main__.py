"""`make bench`: every script here, one after the other; each writes its result file.

Of the planner's benchmark the short form; the whole takes half an hour: `python -m benchmarks.planner`.
"""

from __future__ import annotations

import sys

from benchmarks import addresses, demo, depth, planner, published_optima


def main() -> int:
    """Run all; the exit status is the worst of theirs."""
    return max(
        demo.main(),
        published_optima.main(["--write"]),
        addresses.main(["--write"]),
        depth.main(["--write"]),
        planner.main(["--quick"]),
    )


if __name__ == "__main__":
    sys.exit(main())
