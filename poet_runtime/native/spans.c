/* Granules: one virtual region, best fit, and which granules may have pages.
 *
 * Free spans are kept by length: one list for each length up to 64, then four lists for each doubling. Of the spans
 * that are long enough, the cheapest is taken: its length, plus its granules without pages times PAGE_FAULT_WEIGHT.
 * Pages are given back from the region's far end, so that its beginning stays dense. Invariant: two free spans are
 * never neighbours, and the pages of a free span that has any are at its beginning or unknown.
 */
#define _GNU_SOURCE
#include "spans.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXACT_LISTS 64u
#define EXACT_SHIFT 6
#define LISTS (EXACT_LISTS + (32 - EXACT_SHIFT) * 4)
/* Virtual, so it costs nothing: room for fragments of any plan. */
#define REGION_BYTES ((uint64_t)256 << 30)
#define LEAST_REGION_BYTES ((uint64_t)1 << 30)
/* Zeroing and mapping a granule costs about ten times writing it (256 MiB: 0.3 s against 0.02 s). */
#define PAGE_FAULT_WEIGHT 4u

struct region region;
static uint32_t lists[LISTS];
static uint64_t occupied[(LISTS + 63) / 64];

static void *reserve(uint64_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

int spans_begin(void) {
  const char *asked = getenv("POET_ARENA_REGION_BYTES");
  uint64_t bytes = asked ? strtoull(asked, NULL, 10) & ~(uint64_t)(GRANULE_BYTES - 1) : REGION_BYTES;
  uint64_t least = asked ? bytes : LEAST_REGION_BYTES;
  char *memory = NULL;
  /* Under a limit on virtual memory less has to do. */
  for (; bytes && bytes >= least && !(memory = reserve(bytes + GRANULE_BYTES)); bytes /= 2) {
  }
  if (!memory) return 0;
  uint64_t count = bytes >> GRANULE_SHIFT;
  region.granules = reserve(count * sizeof(struct granule));
  region.pages = reserve(count / 8 + 8);
  if (!region.granules || !region.pages) return 0;
  char *base = (char *)(((uintptr_t)memory + GRANULE_BYTES - 1) & ~(uintptr_t)(GRANULE_BYTES - 1));
  /* A huge page would make granules resident that nobody has touched. */
  madvise(base, bytes, MADV_NOHUGEPAGE);
  for (uint32_t list = 0; list < LISTS; list++) lists[list] = NO_SPAN;
  region.count = (uint32_t)count;
  /* Read by poet_arena_owns without the lock: everything else is in place before it. */
  __atomic_store_n(&region.base, base, __ATOMIC_RELEASE);
  return 1;
}

/* --- lists of free spans, by length ------------------------------------------------------------------------------ */

static uint32_t list_of(uint32_t length) {
  if (length <= EXACT_LISTS) return length - 1;
  uint32_t power = 31 - (uint32_t)__builtin_clz(length);
  return EXACT_LISTS + (power - EXACT_SHIFT) * 4 + ((length >> (power - 2)) & 3);
}

/* The least length in a list. */
static uint32_t least_of(uint32_t list) {
  if (list < EXACT_LISTS) return list + 1;
  uint32_t power = EXACT_SHIFT + (list - EXACT_LISTS) / 4;
  return (4 + (list - EXACT_LISTS) % 4) << (power - 2);
}

static uint32_t next_list(uint32_t list) {
  for (uint32_t word = list / 64; word < (LISTS + 63) / 64; word++) {
    uint64_t bits = occupied[word];
    if (word == list / 64) bits &= ~(uint64_t)0 << (list % 64);
    if (bits) return word * 64 + (uint32_t)__builtin_ctzll(bits);
  }
  return LISTS;
}

static void link_free(uint32_t head) {
  struct granule *span = &region.granules[head];
  uint32_t list = list_of(span->length);
  span->previous = NO_SPAN;
  span->next = lists[list];
  if (span->next != NO_SPAN) region.granules[span->next].previous = head;
  lists[list] = head;
  occupied[list / 64] |= (uint64_t)1 << (list % 64);
}

static void unlink_free(uint32_t head) {
  struct granule *span = &region.granules[head];
  uint32_t list = list_of(span->length);
  if (span->next != NO_SPAN) region.granules[span->next].previous = span->previous;
  if (span->previous != NO_SPAN) {
    region.granules[span->previous].next = span->next;
  } else {
    lists[list] = span->next;
    if (span->next == NO_SPAN) occupied[list / 64] &= ~((uint64_t)1 << (list % 64));
  }
}

/* --- which granules may have pages ------------------------------------------------------------------------------- */

static uint64_t bits_of(uint32_t word, uint32_t begin, uint32_t end) {
  uint64_t mask = ~(uint64_t)0;
  if (word == begin / 64) mask &= ~(uint64_t)0 << (begin % 64);
  if (word == end / 64) mask &= ((uint64_t)1 << (end % 64)) - 1;
  return mask;
}

static uint32_t resident_in(uint32_t begin, uint32_t end) {
  uint32_t found = 0;
  for (uint32_t word = begin / 64; word * 64 < end; word++)
    found += (uint32_t)__builtin_popcountll(region.pages[word] & bits_of(word, begin, end));
  return found;
}

static void mark_resident(uint32_t begin, uint32_t end) {
  for (uint32_t word = begin / 64; word * 64 < end; word++) region.pages[word] |= bits_of(word, begin, end);
}

static int is_resident(uint32_t granule) { return region.pages[granule / 64] >> (granule % 64) & 1; }

/* Gives back up to `wanted` granules from the end of a free span; returns how many. */
static uint64_t return_tail(uint32_t head, uint64_t wanted) {
  struct granule *span = &region.granules[head];
  uint64_t given = 0;
  uint32_t end = head + span->length;
  while (given < wanted && span->resident) {
    while (!is_resident(end - 1)) end--;
    uint32_t begin = end;
    while (begin > head && is_resident(begin - 1) && given < wanted) {
      begin--;
      given++;
      span->resident--;
      region.pages[begin / 64] &= ~((uint64_t)1 << (begin % 64));
    }
    madvise(address_of(begin), (uint64_t)(end - begin) << GRANULE_SHIFT, MADV_DONTNEED);
    region.returns++;
    end = begin;
  }
  region.resident -= given;
  region.returned += given;
  return given;
}

void spans_return(uint64_t granules) {
  for (uint32_t end = region.top; granules && end;) {
    uint32_t head = region.granules[end - 1].head;
    if (region.granules[head].state == SPAN_FREE && region.granules[head].resident)
      granules -= return_tail(head, granules);
    end = head;
  }
}

/* --- spans ------------------------------------------------------------------------------------------------------- */

static void set_span(uint32_t head, uint32_t length, uint32_t state) {
  struct granule *span = &region.granules[head];
  span->state = state;
  span->length = length;
  span->head = head;
  region.granules[head + length - 1].head = head;
}

/* Makes a free span of granules that are in no list, joined with the free spans beside it. */
static void set_free(uint32_t head, uint32_t length) {
  /* No granule inside a free span says that it begins something: an invalid free is found out. */
  region.granules[head].state = SPAN_UNUSED;
  if (head) {
    uint32_t before = region.granules[head - 1].head;
    if (region.granules[before].state == SPAN_FREE) {
      unlink_free(before);
      length += head - before;
      head = before;
    }
  }
  uint32_t after = head + length;
  if (after < region.top && region.granules[after].state == SPAN_FREE) {
    unlink_free(after);
    region.granules[after].state = SPAN_UNUSED;
    length += region.granules[after].length;
  }
  set_span(head, length, SPAN_FREE);
  region.granules[head].resident = resident_in(head, head + length);
  link_free(head);
}

static uint32_t missing_in(uint32_t head, uint32_t length) {
  const struct granule *span = &region.granules[head];
  if (span->resident == span->length) return 0;
  return span->resident ? length - resident_in(head, head + length) : length;
}

/* The cheapest free span of at least `length`, or NO_SPAN. */
static uint32_t best_span(uint32_t length) {
  uint32_t best = NO_SPAN;
  uint64_t best_cost = UINT64_MAX;
  for (uint32_t list = next_list(list_of(length)); list < LISTS; list = next_list(list + 1)) {
    if (least_of(list) > best_cost) break;
    for (uint32_t head = lists[list]; head != NO_SPAN; head = region.granules[head].next) {
      uint32_t found = region.granules[head].length;
      if (found < length || found > best_cost) continue;
      uint64_t cost = found + (uint64_t)PAGE_FAULT_WEIGHT * missing_in(head, length);
      if (cost < best_cost || (cost == best_cost && head < best)) {
        best = head;
        best_cost = cost;
      }
    }
  }
  return best;
}

/* Room of `length` at the end of what has been used, the last free span included; in no list. */
static uint32_t extended(uint32_t length) {
  uint32_t head = region.top;
  if (head) {
    uint32_t last = region.granules[head - 1].head;
    if (region.granules[last].state == SPAN_FREE) head = last;
  }
  if (length > region.count - head) return NO_SPAN;
  if (head != region.top) unlink_free(head);
  region.top = head + length;
  set_span(head, length, SPAN_UNUSED);
  return head;
}

/* Takes `length` granules at `head` out of a span that is in no list; the rest becomes free. */
static uint32_t carve(uint32_t head, uint32_t length, uint32_t alignment) {
  uint32_t whole = region.granules[head].length;
  uint64_t address = (uint64_t)(uintptr_t)address_of(head) >> GRANULE_SHIFT;
  uint32_t skip = (uint32_t)(-address & (alignment - 1));
  set_span(head + skip, length, SPAN_BLOCK);
  if (whole > skip + length) set_free(head + skip + length, whole - skip - length);
  if (skip) set_free(head, skip);
  return head + skip;
}

uint32_t span_take(uint32_t length, uint32_t alignment, int hard, int *over_limit) {
  uint32_t needed = length + alignment - 1;
  *over_limit = 0;
  if (!length || needed < length) return NO_SPAN;
  uint32_t head = best_span(needed);
  if (head != NO_SPAN) {
    unlink_free(head);
  } else {
    head = extended(needed);
    if (head == NO_SPAN) return NO_SPAN;
  }
  head = carve(head, length, alignment);
  uint32_t fresh = length - resident_in(head, head + length);
  if (region.limit && region.resident + fresh > region.limit) spans_return(region.resident + fresh - region.limit);
  *over_limit = region.limit && fresh && region.resident + fresh > region.limit;
  if (*over_limit && hard) {
    set_free(head, length);
    return NO_SPAN;
  }
  mark_resident(head, head + length);
  region.resident += fresh;
  region.fresh += fresh;
  region.in_use += length;
  return head;
}

void span_free(uint32_t head) {
  uint32_t length = region.granules[head].length;
  region.in_use -= length;
  set_free(head, length);
}

void span_shorten(uint32_t head, uint32_t length) {
  uint32_t rest = region.granules[head].length - length;
  if (!rest) return;
  region.in_use -= rest;
  set_span(head, length, region.granules[head].state);
  set_free(head + length, rest);
}

uint32_t spans_largest_hole(void) {
  uint32_t largest = 0;
  for (uint32_t list = next_list(0); list < LISTS; list = next_list(list + 1))
    for (uint32_t head = lists[list]; head != NO_SPAN; head = region.granules[head].next)
      if (region.granules[head].length > largest) largest = region.granules[head].length;
  return largest;
}

uint64_t spans_held_bytes(void) {
  unsigned char present[1024];
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end = (uint64_t)region.top << GRANULE_SHIFT, held = 0;
  for (uint64_t at = 0; at < end; at += sizeof present * page) {
    uint64_t length = end - at < sizeof present * page ? end - at : sizeof present * page;
    if (mincore(region.base + at, length, present) != 0) continue;
    for (uint64_t i = 0; i < length / page; i++) held += (present[i] & 1u) * page;
  }
  return held;
}
