"""The client of a planning service. It knows documents and HTTP, and trusts no server.

from poet_client import PlannerClient
plan = PlannerClient("http://127.0.0.1:8080").plan(graph, device="mkr1000", ram_bytes=32768)
"""

from poet_client.client import PlannerClient

__all__ = ["PlannerClient"]
