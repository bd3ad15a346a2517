"""The guard: what must not leave the kernel, found and cut out."""
