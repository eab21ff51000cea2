"""`make bench`: every script here, one after the other; each writes its result file."""

from __future__ import annotations

import sys

from benchmarks import demo, published_optima


def main() -> int:
    """Run all; the exit status is the worst of theirs."""
    return max(demo.main(), published_optima.main(["--write"]))


if __name__ == "__main__":
    sys.exit(main())
