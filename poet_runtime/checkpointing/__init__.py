"""Checkpointing: two slots of which one is whole at any moment, written beside the step."""
