"""One file for each schema version, each naming the one before it."""
