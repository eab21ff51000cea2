"""A worker whose disk fails as POET_TEST_DISK says: `word call number file`, see disk_parts.At."""

from __future__ import annotations

import os

from poet_runtime.isolated.worker import main
from tests.runtime.disk_parts import At, scripted

if __name__ == "__main__":
    word, call, number, file = os.environ["POET_TEST_DISK"].split(" ", 3)
    main(scripted(At(word, call, int(number), file=file, stays=word != "flip")))
