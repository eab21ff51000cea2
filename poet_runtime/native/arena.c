/* The accounts: what is in use, what it was at most, and which op was under way then. One lock for everything. */
#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "small.h"
#include "spans.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int begun; /* 0: not yet, 1: a region is there, -1: the system gave none */
static int hard_limit;
static int64_t tag = -1; /* written by the program at any time, without the lock */
/* What spans.c does not count. */
static struct poet_arena_statistics now = {
    .peak_in_use_tag = -1, .peak_plain_tag = -1, .peak_resident_tag = -1, .first_excess_tag = -1, .first_over_limit_tag = -1};

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void give_lock(void) { pthread_mutex_unlock(&lock); }

/* The region is made for the first block, so that a process which needs none pays nothing. */
static int begin(void) {
  if (!begun) {
    begun = spans_begin() ? 1 : -1;
    /* A child of fork() must not find the lock taken by a thread that it does not have. */
    if (begun == 1) pthread_atfork(take_lock, give_lock, give_lock);
  }
  return begun == 1;
}

static int64_t tag_now(void) { return __atomic_load_n(&tag, __ATOMIC_RELAXED); }

static uint64_t bytes(uint64_t granules) { return granules << GRANULE_SHIFT; }

static void note_resident(int over_limit) {
  if (region.resident > now.peak_resident_bytes >> GRANULE_SHIFT) {
    now.peak_resident_bytes = bytes(region.resident);
    now.peak_resident_tag = tag_now();
  }
  if (bytes(region.in_use) > now.peak_span_bytes) now.peak_span_bytes = bytes(region.in_use);
  if (over_limit && now.over_limit++ == 0) now.first_over_limit_tag = tag_now();
}

static void note_taken(uint64_t size, int plain) {
  if (plain) {
    now.plain_bytes += size;
    if (now.plain_bytes > now.peak_plain_bytes) {
      now.peak_plain_bytes = now.plain_bytes;
      now.peak_plain_tag = tag_now();
    }
    return;
  }
  now.in_use_bytes += size;
  if (now.in_use_bytes > now.peak_in_use_bytes) {
    now.peak_in_use_bytes = now.in_use_bytes;
    now.peak_in_use_tag = tag_now();
  }
  if (now.planned_bytes && now.in_use_bytes > now.planned_bytes && now.excesses++ == 0) {
    now.first_excess_tag = tag_now();
    now.first_excess_bytes = now.in_use_bytes;
  }
}

static void *take(size_t alignment, size_t size, int plain) {
  int over_limit = 0;
  /* A tensor that is refused is an error with a name; few libraries look at what malloc returns. */
  int hard = hard_limit && !plain;
  void *block = NULL;
  if (!plain && size <= SMALL_BYTES && alignment <= SMALL_ALIGNMENT) {
    block = small_take(size, hard, &over_limit);
  } else {
    uint64_t length = (size + GRANULE_BYTES - 1) >> GRANULE_SHIFT;
    uint64_t step = alignment > GRANULE_BYTES ? alignment >> GRANULE_SHIFT : 1;
    if (length + step > region.count) return NULL;
    uint32_t head = span_take((uint32_t)length, (uint32_t)step, hard, &over_limit);
    if (head != NO_SPAN) {
      region.granules[head].requested = size;
      if (plain) region.granules[head].state = SPAN_PLAIN;
      block = address_of(head);
    }
  }
  note_resident(over_limit);
  if (block) {
    now.blocks++;
    note_taken(size, plain);
  } else if (over_limit) {
    now.refused++;
  }
  return block;
}

static void *allocate(size_t alignment, size_t size, int plain) {
  void *block = NULL;
  /* Beyond this, rounding up to granules would not fit a size_t; no machine has it. */
  if (size <= SIZE_MAX / 4 && alignment <= SIZE_MAX / 4) {
    take_lock();
    if (begin()) block = take(alignment, size ? size : 1, plain);
    give_lock();
  }
  if (!block) errno = ENOMEM;
  return block;
}

void *poet_arena_allocate(size_t alignment, size_t size) { return allocate(alignment, size, 0); }

void *poet_arena_allocate_plain(size_t size) { return allocate(1, size, 1); }

int poet_arena_available(void) {
  take_lock();
  int available = begin();
  give_lock();
  return available;
}

int poet_arena_owns(const void *block) {
  const char *base = __atomic_load_n(&region.base, __ATOMIC_ACQUIRE);
  return base && (uint64_t)((const char *)block - base) >> GRANULE_SHIFT < region.count;
}

/* The first granule of the span of a live block; anything else is a defect of the program, as it is for libc. */
static uint32_t span_of(const void *block) {
  uint32_t granule = granule_of(block);
  if (granule < region.top) {
    uint32_t head = region.granules[granule].head;
    uint32_t state = region.granules[granule].state;
    if ((state == SPAN_BLOCK || state == SPAN_PLAIN) && block == address_of(granule)) return granule;
    if (head <= granule && region.granules[head].state == SPAN_SLAB && granule - head < region.granules[head].length &&
        small_requested(head, block))
      return head;
  }
  abort();
}

static void note_given(uint32_t head, uint64_t size) {
  if (region.granules[head].state == SPAN_PLAIN) {
    now.plain_bytes -= size;
  } else {
    now.in_use_bytes -= size;
  }
}

void poet_arena_release(void *block) {
  int saved = errno;
  if (!block) return;
  take_lock();
  uint32_t head = span_of(block);
  now.blocks--;
  if (region.granules[head].state == SPAN_SLAB) {
    now.in_use_bytes -= small_free(head, block);
  } else {
    note_given(head, region.granules[head].requested);
    span_free(head);
  }
  give_lock();
  errno = saved;
}

static size_t usable(uint32_t head) {
  if (region.granules[head].state == SPAN_SLAB) return small_usable(head);
  return (size_t)bytes(region.granules[head].length);
}

size_t poet_arena_usable(const void *block) {
  take_lock();
  size_t found = usable(span_of(block));
  give_lock();
  return found;
}

/* Whether the block could stay where it is. A span that becomes shorter gives back its end. */
static int resize_in_place(uint32_t head, void *block, size_t size, int plain) {
  if (size > usable(head)) return 0;
  if (region.granules[head].state == SPAN_SLAB) {
    now.in_use_bytes -= small_requested(head, block);
    small_request(head, block, size);
  } else {
    if (size <= SMALL_BYTES && !plain) return 0; /* a slot is cheaper */
    note_given(head, region.granules[head].requested);
    region.granules[head].requested = size;
    span_shorten(head, (uint32_t)((size + GRANULE_BYTES - 1) >> GRANULE_SHIFT));
  }
  note_taken(size, plain);
  return 1;
}

void *poet_arena_resize(void *block, size_t size) {
  if (!size) size = 1;
  take_lock();
  uint32_t head = span_of(block);
  size_t kept = usable(head);
  int plain = region.granules[head].state == SPAN_PLAIN;
  int stays = resize_in_place(head, block, size, plain);
  give_lock();
  if (stays) return block;
  void *moved = allocate(1, size, plain);
  if (moved) {
    memcpy(moved, block, kept < size ? kept : size);
    poet_arena_release(block);
  }
  return moved;
}

void poet_arena_read(struct poet_arena_statistics *statistics) {
  take_lock();
  *statistics = now;
  statistics->span_bytes = bytes(region.in_use);
  statistics->resident_bytes = bytes(region.resident);
  statistics->largest_hole_bytes = region.base ? bytes(spans_largest_hole()) : 0;
  statistics->reached_bytes = bytes(region.top);
  statistics->resident_limit_bytes = bytes(region.limit);
  statistics->fresh_bytes = bytes(region.fresh);
  statistics->returned_bytes = bytes(region.returned);
  statistics->returns = region.returns;
  give_lock();
}

void poet_arena_limit(uint64_t limit_bytes, int hard) {
  take_lock();
  /* Rounded down: a bound is a bound. */
  region.limit = limit_bytes >> GRANULE_SHIFT;
  if (limit_bytes && !region.limit) region.limit = 1;
  hard_limit = hard;
  if (region.limit && region.resident > region.limit) spans_return(region.resident - region.limit);
  give_lock();
}

void poet_arena_plan(uint64_t planned_bytes) {
  take_lock();
  now.planned_bytes = planned_bytes;
  now.excesses = 0;
  now.first_excess_tag = -1;
  now.first_excess_bytes = 0;
  give_lock();
}

void poet_arena_reset(void) {
  take_lock();
  struct poet_arena_statistics begun_again = {
      .in_use_bytes = now.in_use_bytes,
      .peak_in_use_bytes = now.in_use_bytes,
      .peak_in_use_tag = tag_now(),
      .plain_bytes = now.plain_bytes,
      .peak_plain_bytes = now.plain_bytes,
      .peak_plain_tag = tag_now(),
      .blocks = now.blocks,
      .peak_span_bytes = bytes(region.in_use),
      .peak_resident_bytes = bytes(region.resident),
      .peak_resident_tag = tag_now(),
      .planned_bytes = now.planned_bytes,
      .first_excess_tag = -1,
      .first_over_limit_tag = -1,
  };
  now = begun_again;
  region.fresh = region.returned = region.returns = 0;
  give_lock();
}

void poet_arena_trim(void) {
  take_lock();
  spans_return(UINT64_MAX);
  give_lock();
}

uint64_t poet_arena_held(void) {
  take_lock();
  uint64_t held = spans_held_bytes();
  give_lock();
  return held;
}

int64_t *poet_arena_tag(void) { return &tag; }

int poet_arena_version(void) { return POET_ARENA_VERSION; }
