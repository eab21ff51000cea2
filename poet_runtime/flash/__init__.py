"""Flash: storages out of memory and back, under checksums, by one I/O thread or by copy streams."""
