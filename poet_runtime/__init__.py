"""The companion runtime: PyTorch in, PyTorch out, inside a RAM budget."""
