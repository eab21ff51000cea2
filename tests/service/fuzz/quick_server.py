"""A whole service as a process, whose solves keep everything, or fail, and end at once.

python -m tests.service.fuzz.quick_server STATE_FOLDER      prints its address, ends at SIGTERM
"""

import asyncio
import sys
from pathlib import Path

from poet_core.errors import PoetError
from poet_service import server
from poet_service.app import create_app
from poet_service.logs import configure_logging
from poet_service.problems import error_document
from poet_service.settings import Settings
from poet_service.state_folder import open_service_store
from tests.service.conftest import HeldExecutor


class KeepingExecutor(HeldExecutor):
    """Keeps everything where that fits, and fails where it does not."""

    async def submit(self, solve_id):
        await asyncio.to_thread(self._solve, solve_id)

    def _solve(self, solve_id):
        if self.begin(solve_id) is None:
            return
        try:
            plan = self.plan(solve_id)
        except PoetError as error:
            self.fail(solve_id, error_document(error))
        else:
            self.end(solve_id, plan)


def main():
    settings = Settings(
        state_dir=Path(sys.argv[1]),
        request_burst=10**6,
        requests_per_second=10**5,
        most_wait_seconds=0.2,
        # So little is remembered that memory which grows is a leak.
        remembered_requests=64,
        remembered_bytes=2**20,
        retain_seconds=2,
        sweep_seconds=1,
        stored_bytes=2**21,
    )
    configure_logging("error")
    store = open_service_store(settings)
    with server.listen("127.0.0.1", 0) as listener:
        app = create_app(settings, store=store, executor=KeepingExecutor(store))
        address = server.address_of(listener)
        server.run(app, settings, listener, announce=lambda: _say(address))
    store.close()


def _say(address):
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
