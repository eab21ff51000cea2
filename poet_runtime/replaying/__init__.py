"""Replaying: a program under a schedule, carried out on the model's and the optimizer's own state."""
