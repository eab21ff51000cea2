"""Memory: what bounds it (the arena, the kernel's memory groups) and what measures it."""
