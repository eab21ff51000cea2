/* Small blocks, used under the arena's lock; see small.c. */
#ifndef POET_SMALL_H
#define POET_SMALL_H

#include <stddef.h>
#include <stdint.h>

#define SMALL_BYTES ((size_t)32 << 10)
#define SMALL_ALIGNMENT ((size_t)64)

/* A block of at most SMALL_BYTES, or NULL. */
void *small_take(size_t size, int hard, int *over_limit);
/* Frees a block in the slab that begins at granule `slab`; returns what had been asked for, 0 for no block of ours. */
size_t small_free(uint32_t slab, void *block);
size_t small_requested(uint32_t slab, const void *block);
size_t small_usable(uint32_t slab);
void small_request(uint32_t slab, const void *block, size_t size);

#endif
