"""`poet doctor`: what this machine has, looked at one thing at a time.

Invariant: nothing here imports torch; with `--deep` a child process does, within a time limit.
"""
