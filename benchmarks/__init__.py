"""Every number in README and docs comes from a script here, which writes its result beside it."""
