"""Jobs: what a token asked for, the solves that answer it, and the states they go through.

states    SolveState and the transitions that exist
records   what the database gives back
"""
