/* The process's own posix_memalign, free and the rest, where this library is preloaded.
 *
 * PyTorch's CPU allocator, oneDNN and C++'s aligned new allocate through the aligned functions: those blocks are the
 * arena's. So are blocks of malloc that libc would map each on its own (MKL's and oneDNN's buffers): in the arena their
 * pages are reused and count. Everything else is left to libc, and a block that is not ours goes where it came from.
 * Invariant: which allocator a block belongs to is decided by its address alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "arena.h"

/* libc's own, resolved once. While dlsym itself runs, what it frees is left alone: a few bytes, once. */
static struct {
  void (*free)(void *);
  void *(*realloc)(void *, size_t);
  void *(*memalign)(size_t, size_t);
  size_t (*malloc_usable_size)(void *);
  int resolving;
} libc;

/* libc's own malloc, by the name that needs no looking up: the loader calls malloc before anything is resolved. */
extern void *__libc_malloc(size_t) __attribute__((weak));

/* The size from which malloc's blocks are the arena's; libc's default threshold for mapping a block. 0: none are. */
static size_t plain_from = (size_t)128 << 10;

__attribute__((constructor)) static void resolve(void) {
  if (libc.free || libc.resolving) return;
  libc.resolving = 1;
  const char *asked = getenv("POET_ARENA_MALLOC_BYTES");
  if (asked) plain_from = strtoull(asked, NULL, 10);
  *(void **)&libc.realloc = dlsym(RTLD_NEXT, "realloc");
  *(void **)&libc.memalign = dlsym(RTLD_NEXT, "memalign");
  *(void **)&libc.malloc_usable_size = dlsym(RTLD_NEXT, "malloc_usable_size");
  *(void **)&libc.free = dlsym(RTLD_NEXT, "free");
}

static int power_of_two(size_t number) { return number && !(number & (number - 1)); }

/* libc's answer stands in only where there is no arena at all (no address space); a refusal is a refusal. */
static void *aligned(size_t alignment, size_t size) {
  void *block = poet_arena_allocate(alignment, size);
  if (!block && !poet_arena_available()) {
    resolve();
    block = libc.memalign(alignment, size);
  }
  return block;
}

POET_EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
  if (!power_of_two(alignment) || alignment % sizeof(void *)) return EINVAL;
  int saved = errno;
  void *found = aligned(alignment, size);
  errno = saved; /* it reports by its result */
  if (!found) return ENOMEM;
  *block = found;
  return 0;
}

POET_EXPORT void *aligned_alloc(size_t alignment, size_t size) {
  if (!power_of_two(alignment)) {
    errno = EINVAL;
    return NULL;
  }
  return aligned(alignment, size);
}

POET_EXPORT void *memalign(size_t alignment, size_t size) {
  resolve();
  /* libc rounds an odd alignment up; leave that to it. */
  return power_of_two(alignment) ? aligned(alignment, size) : libc.memalign(alignment, size);
}

POET_EXPORT void free(void *block) {
  if (poet_arena_owns(block)) {
    poet_arena_release(block);
  } else if (block) {
    resolve();
    if (libc.free) libc.free(block);
  }
}

/* Only where libc has that name; elsewhere malloc is not answered for. */
#ifdef __GLIBC__
POET_EXPORT void *malloc(size_t size) {
  if (plain_from && size >= plain_from) {
    int saved = errno;
    void *block = poet_arena_allocate_plain(size);
    if (block) {
      errno = saved;
      return block;
    }
    if (poet_arena_available()) return NULL;
  }
  return __libc_malloc(size);
}
#endif

POET_EXPORT void *realloc(void *block, size_t size) {
  if (!poet_arena_owns(block)) {
    resolve();
    return libc.realloc(block, size);
  }
  if (size) return poet_arena_resize(block, size);
  poet_arena_release(block);
  return NULL;
}

POET_EXPORT void *reallocarray(void *block, size_t count, size_t size) {
  size_t whole;
  if (__builtin_mul_overflow(count, size, &whole)) {
    errno = ENOMEM;
    return NULL;
  }
  return realloc(block, whole);
}

POET_EXPORT size_t malloc_usable_size(void *block) {
  if (poet_arena_owns(block)) return poet_arena_usable(block);
  resolve();
  return block ? libc.malloc_usable_size(block) : 0;
}
