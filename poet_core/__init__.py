"""The vocabulary that every part of the planner speaks: graphs, devices, costs, plans and the judge.

Nothing here imports torch, PuLP, pydantic or FastAPI, and importing it costs milliseconds.
"""
