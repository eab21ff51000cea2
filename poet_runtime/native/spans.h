/* Spans of granules, used under the arena's lock; see spans.c. */
#ifndef POET_SPANS_H
#define POET_SPANS_H

#include <stdint.h>

#define GRANULE_SHIFT 16
#define GRANULE_BYTES ((size_t)1 << GRANULE_SHIFT)
#define NO_SPAN UINT32_MAX

enum span_state { SPAN_UNUSED = 0, SPAN_FREE, SPAN_BLOCK, SPAN_PLAIN, SPAN_SLAB };

/* One entry a granule. Of a span, the first has everything and the last has `head`; a slab's all have `head`. */
struct granule {
  uint32_t state;
  uint32_t head;
  uint32_t length;   /* granules of the span */
  uint32_t resident; /* of a free span: those that may have pages */
  uint32_t next, previous; /* the list that the span is in: free spans of a size, slabs with room */
  uint64_t requested; /* of a block: the bytes that were asked for */
};

struct region {
  char *base; /* NULL until spans_begin */
  struct granule *granules;
  uint64_t *pages; /* one bit a granule: may it have pages? */
  uint32_t count;
  uint32_t top; /* granules from here on have never been used */
  uint64_t in_use, resident, limit; /* granules; limit 0: none */
  uint64_t fresh, returned, returns;
};

extern struct region region;

int spans_begin(void);
/* Takes `length` granules that begin at a multiple of `alignment` granules; NO_SPAN where there is no room.
 * `over_limit` says whether they could not be kept within the limit; with `hard` they are not taken then. */
uint32_t span_take(uint32_t length, uint32_t alignment, int hard, int *over_limit);
void span_free(uint32_t head);
/* Keeps the first `length` granules of a taken span and frees the others. */
void span_shorten(uint32_t head, uint32_t length);
void spans_return(uint64_t granules);
uint32_t spans_largest_hole(void);
uint64_t spans_held_bytes(void);

static inline uint32_t granule_of(const void *address) {
  return (uint32_t)((uint64_t)((const char *)address - region.base) >> GRANULE_SHIFT);
}

static inline char *address_of(uint32_t granule) { return region.base + ((uint64_t)granule << GRANULE_SHIFT); }

#endif
