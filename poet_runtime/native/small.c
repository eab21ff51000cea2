/* Blocks up to 32 KiB: slabs of equal slots, one or four granules each.
 *
 * Slots come in 16 sizes up to 1 KiB (multiples of 64 bytes, as plans round) and four a doubling beyond it. A slab
 * begins with its header and the size that was asked for of each slot, 0 for a free one. Invariant: a slab with a
 * free slot is in its size's list; one without a block is given back to the spans.
 */
#include "small.h"

#include "spans.h"

#define EXACT_SIZES 16u
#define SIZES (EXACT_SIZES + 20u)
#define NO_SLOT UINT16_MAX

struct slab {
  uint32_t slot_bytes, size, slots, used;
  uint32_t unused; /* slots from here on have never been used */
  uint16_t freed;  /* the newest freed slot, which names the next in its first bytes */
  uint16_t requested[];
};

/* The first slab with room of each size, plus one: zero is none. */
static uint32_t with_room[SIZES];

static uint32_t size_of(size_t size) {
  if (size <= EXACT_SIZES * 64) return (uint32_t)((size + 63) / 64) - 1;
  uint32_t power = 31 - (uint32_t)__builtin_clz((uint32_t)size - 1);
  return EXACT_SIZES + (power - 10) * 4 + (((uint32_t)size - 1) >> (power - 2) & 3);
}

static uint32_t bytes_of(uint32_t size) {
  if (size < EXACT_SIZES) return (size + 1) * 64;
  uint32_t doubling = (size - EXACT_SIZES) / 4, quarter = (size - EXACT_SIZES) % 4;
  return (5 + quarter) << (8 + doubling);
}

static struct slab *slab_at(uint32_t granule) { return (struct slab *)(void *)address_of(granule); }

static char *slot_at(struct slab *slab, uint32_t slot) {
  size_t header = (sizeof(struct slab) + slab->slots * sizeof(uint16_t) + 63) & ~(size_t)63;
  return (char *)slab + header + (size_t)slot * slab->slot_bytes;
}

/* The slot that begins at `block`, or NO_SLOT. */
static uint32_t slot_of(struct slab *slab, const void *block) {
  uint64_t offset = (uint64_t)((const char *)block - slot_at(slab, 0));
  uint64_t slot = offset / slab->slot_bytes;
  return slot < slab->slots && slot * slab->slot_bytes == offset ? (uint32_t)slot : NO_SLOT;
}

static void link_room(uint32_t granule) {
  uint32_t *first = &with_room[slab_at(granule)->size];
  region.granules[granule].previous = 0;
  region.granules[granule].next = *first;
  if (*first) region.granules[*first - 1].previous = granule + 1;
  *first = granule + 1;
}

static void unlink_room(uint32_t granule) {
  struct granule *span = &region.granules[granule];
  if (span->next) region.granules[span->next - 1].previous = span->previous;
  if (span->previous) {
    region.granules[span->previous - 1].next = span->next;
  } else {
    with_room[slab_at(granule)->size] = span->next;
  }
}

static int begin_slab(uint32_t size, int hard, int *over_limit) {
  uint32_t slot_bytes = bytes_of(size), length = slot_bytes <= 4096 ? 1 : 4;
  uint32_t granule = span_take(length, 1, hard, over_limit);
  if (granule == NO_SPAN) return 0;
  region.granules[granule].state = SPAN_SLAB;
  for (uint32_t i = 0; i < length; i++) region.granules[granule + i].head = granule;
  struct slab *slab = slab_at(granule);
  slab->size = size;
  slab->slot_bytes = slot_bytes;
  slab->slots = (uint32_t)((length * GRANULE_BYTES - sizeof *slab - 63) / (slot_bytes + sizeof(uint16_t)));
  slab->used = slab->unused = 0;
  slab->freed = NO_SLOT;
  link_room(granule);
  return 1;
}

void *small_take(size_t size, int hard, int *over_limit) {
  uint32_t kind = size_of(size);
  *over_limit = 0;
  if (!with_room[kind] && !begin_slab(kind, hard, over_limit)) return NULL;
  uint32_t granule = with_room[kind] - 1;
  struct slab *slab = slab_at(granule);
  uint32_t slot = slab->freed;
  char *block;
  if (slot != NO_SLOT) {
    block = slot_at(slab, slot);
    slab->freed = *(uint16_t *)(void *)block;
  } else {
    slot = slab->unused++;
    block = slot_at(slab, slot);
  }
  slab->requested[slot] = (uint16_t)size;
  if (++slab->used == slab->slots) unlink_room(granule);
  return block;
}

size_t small_requested(uint32_t granule, const void *block) {
  struct slab *slab = slab_at(granule);
  uint32_t slot = slot_of(slab, block);
  return slot < slab->unused ? slab->requested[slot] : 0;
}

size_t small_usable(uint32_t granule) { return slab_at(granule)->slot_bytes; }

void small_request(uint32_t granule, const void *block, size_t size) {
  struct slab *slab = slab_at(granule);
  slab->requested[slot_of(slab, block)] = (uint16_t)size;
}

size_t small_free(uint32_t granule, void *block) {
  struct slab *slab = slab_at(granule);
  size_t requested = small_requested(granule, block);
  if (!requested) return 0;
  uint32_t slot = slot_of(slab, block);
  if (slab->used-- == slab->slots) link_room(granule);
  slab->requested[slot] = 0;
  *(uint16_t *)block = slab->freed;
  slab->freed = (uint16_t)slot;
  if (!slab->used) {
    unlink_room(granule);
    span_free(granule);
  }
  return requested;
}
