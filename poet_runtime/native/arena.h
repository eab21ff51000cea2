/* The arena: one virtual region for every aligned block of a process, so that its resident memory can be bounded.
 *
 *     interpose.c   posix_memalign, free, ... of the process (LD_PRELOAD)      what is not ours goes on to libc
 *     arena.c       lock, accounts, limit, tags                                the functions declared here
 *     small.c       blocks up to 32 KiB, in slabs of one or four granules
 *     spans.c       granules of 64 KiB: best fit, residency, pages given back
 *
 * A block of its own begins at a granule. Freed granules keep their pages, for the next block, until the resident
 * limit would be exceeded; only then are pages of free granules given back to the system. Invariant: every counter
 * counts blocks that are live, and `resident_bytes` is never less than what the region really holds in RAM.
 */
#ifndef POET_ARENA_H
#define POET_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define POET_ARENA_VERSION 3
#define POET_EXPORT __attribute__((visibility("default")))

/* All in bytes but the counts. "In use" is what was asked for with an alignment, which is how tensors come; "plain" what
 * malloc asked for; "span" both in granules and slabs. */
struct poet_arena_statistics {
  uint64_t in_use_bytes;
  uint64_t peak_in_use_bytes;
  int64_t peak_in_use_tag; /* the tag when the peak was reached for the first time */
  uint64_t plain_bytes;
  uint64_t peak_plain_bytes;
  int64_t peak_plain_tag;
  uint64_t blocks; /* of both kinds */
  uint64_t span_bytes;
  uint64_t peak_span_bytes;
  uint64_t resident_bytes;
  uint64_t peak_resident_bytes;
  int64_t peak_resident_tag;
  uint64_t largest_hole_bytes; /* the largest free span between blocks */
  uint64_t reached_bytes;      /* how much of the region has ever been used */
  uint64_t resident_limit_bytes; /* 0: none */
  uint64_t planned_bytes;        /* 0: none; more in use than this is an excess */
  uint64_t fresh_bytes;          /* handed out without pages: each is a page fault to come */
  uint64_t returned_bytes;       /* pages given back to the system */
  uint64_t returns;              /* calls that did so */
  uint64_t excesses;             /* allocations that took more in use than planned */
  int64_t first_excess_tag;
  uint64_t first_excess_bytes; /* in use after it */
  uint64_t over_limit;         /* allocations that no page given back could keep within the resident limit */
  int64_t first_over_limit_tag;
  uint64_t refused; /* of those, refused: a hard limit */
};

POET_EXPORT int poet_arena_version(void);
/* Whether the system gave a region; without one every allocation fails. */
POET_EXPORT int poet_arena_available(void);
/* Memory for a block, or NULL with errno ENOMEM (also where a hard limit refuses). `alignment`: a power of two. */
POET_EXPORT void *poet_arena_allocate(size_t alignment, size_t size);
/* The same for malloc: counted apart, never in a slab. */
POET_EXPORT void *poet_arena_allocate_plain(size_t size);
POET_EXPORT void poet_arena_release(void *block);
POET_EXPORT int poet_arena_owns(const void *block);
POET_EXPORT size_t poet_arena_usable(const void *block);
/* The block with another size, in place where its span is large enough; NULL leaves the old one alone. */
POET_EXPORT void *poet_arena_resize(void *block, size_t size);
POET_EXPORT void poet_arena_read(struct poet_arena_statistics *statistics);
/* Bounds resident memory (0: no bound). `hard`: an aligned allocation that cannot be kept within it fails. */
POET_EXPORT void poet_arena_limit(uint64_t bytes, int hard);
/* What the plan says is in use at most (0: nothing said); forgets earlier excesses. */
POET_EXPORT void poet_arena_plan(uint64_t bytes);
/* Peaks, excesses and flows begin again from what is now. */
POET_EXPORT void poet_arena_reset(void);
/* Gives back every page of free granules. */
POET_EXPORT void poet_arena_trim(void);
/* What the region really holds in RAM, by the system's own account: never more than `resident_bytes`, and less where
 * blocks have pages that nobody has touched yet. */
POET_EXPORT uint64_t poet_arena_held(void);
/* Where the current tag lies: the program writes the number of its op there, without a call. */
POET_EXPORT int64_t *poet_arena_tag(void);

#endif
