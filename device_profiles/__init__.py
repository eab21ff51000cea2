"""Package data only: one TOML file a device, every number with its source.

Read with `importlib.resources.files("device_profiles")`; nothing here is code, so nothing here imports anything.
"""
