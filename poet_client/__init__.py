"""The client of a planning service. It knows documents and HTTP, and trusts no server.

from poet_client import PlannerClient
plan = PlannerClient("http://127.0.0.1:8080").plan(graph, device="mkr1000", ram_bytes=32768)
"""

from poet_client.async_client import AsyncPlannerClient
from poet_client.async_job import AsyncFrontierJob, AsyncJob
from poet_client.client import PlannerClient
from poet_client.frontier_flows import FrontierView, PlannedPoint
from poet_client.job import FrontierJob, Job
from poet_client.job_list import JobPage
from poet_client.questions import Validation, Verdict
from poet_client.retrying import RetryPolicy, is_unavailable
from poet_client.views import JobEvent, JobProgress, JobState, JobView, LogPart

__all__ = [
    "AsyncFrontierJob",
    "AsyncJob",
    "AsyncPlannerClient",
    "FrontierJob",
    "FrontierView",
    "Job",
    "JobEvent",
    "JobPage",
    "JobProgress",
    "JobState",
    "JobView",
    "LogPart",
    "PlannedPoint",
    "PlannerClient",
    "RetryPolicy",
    "Validation",
    "Verdict",
    "is_unavailable",
]
