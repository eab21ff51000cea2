"""Store: the only code that speaks SQL, made of parts of one idea each.

    Tokens        secret, add_token, find_token, list_tokens, revoke_token, has_tokens
    Submissions   submit, submit_frontier
    Jobs          job, jobs, job_plan, leave
    Solves        solve, solves, changed, find_solve, request, warm_start, plan, queued, running,
                  counts
    Transitions   claim, finish, fail, stopped, lost, release, corrupt
    Reports       heartbeat, incumbent, bound
    Logbook       progress, events, log, read_log
    Retention     sweep, stored_bytes

Every method is one transaction (a sweep is several), may be called from any thread, and blocks;
callers on an event loop use threads. Trouble with the database is a ServiceError (failures.py).
"""

from __future__ import annotations

from poet_service.database.jobs import Jobs
from poet_service.database.logbook import Logbook
from poet_service.database.reports import Reports
from poet_service.database.retention import Retention
from poet_service.database.schema import schema_version
from poet_service.database.solves import Solves
from poet_service.database.submissions import Submissions
from poet_service.database.tokens import Tokens
from poet_service.database.transitions import Transitions


class Store(Tokens, Submissions, Jobs, Solves, Transitions, Reports, Logbook, Retention):
    """The state of the service. Made by open_store."""

    def ping(self) -> None:
        """Return if the database answers. Raises ServiceError."""
        self.schema_version()

    def schema_version(self) -> str:
        """The version of the tables."""
        return self._database.read(schema_version) or ""

    def close(self) -> None:
        """Give the connections back. The store is not used any more."""
        self._database.close()
