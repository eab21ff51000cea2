"""A process that races: `python -m tests.service.database.racer URL WHAT`, told when to begin.

It prints "ready", waits for a line, and prints what it got as one JSON line.
"""

import json
import sys

from poet_service.database.engine import open_store


def main():
    """open: the secret of a database that may not exist yet. claim: every queued solve it gets."""
    url, what = sys.argv[1:]
    store = open_store(url, busy_seconds=60.0) if what == "claim" else None
    _say("ready")
    sys.stdin.readline()
    if store is None:
        store = open_store(url, busy_seconds=60.0)
        got = [store.secret().hex()]
    else:
        ids = store.queued(1000)
        got = [id_ for id_ in ids if store.claim(id_, "racer") is not None]
    _say(json.dumps(got))
    store.close()


def _say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
