"""`poet check`: whether the models that a team names fit the devices that it names, in numbers.

Invariant: nothing here imports torch but the child process that traces (`trace_child`).
"""
