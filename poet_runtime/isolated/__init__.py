"""Isolated: a step traced and planned here and trained in a lean process of its own.

The worker imports this package, so nothing is imported here.
"""
