/* Words of shared memory, each access with its memory order in its name.
 *
 * The only place with atomics: who reads a call knows what it promises, and a
 * missing order cannot be forgotten, since there is no function without one.
 *
 * Pairs: every load_acquire that sees the value of a store_release (or of a
 * later read-modify-write) also sees all that its writer stored before.
 *
 * No fences: ThreadSanitizer does not understand them, and orders on the
 * accesses themselves cost the same on x86-64, and on aarch64 little more.
 */
#ifndef SENTINEL_ATOMICS_H
#define SENTINEL_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic uint64_t word_t;

_Static_assert(sizeof(word_t) == 8, "a word is 64 bits and nothing else");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock inside an atomic would die with its holder");

static inline uint64_t load_relaxed(const word_t *word)
{
    return atomic_load_explicit((word_t *)word, memory_order_relaxed);
}

static inline uint64_t load_acquire(const word_t *word)
{
    return atomic_load_explicit((word_t *)word, memory_order_acquire);
}

static inline void store_relaxed(word_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void store_release(word_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

static inline uint64_t fetch_add_acq_rel(word_t *word, uint64_t n)
{
    return atomic_fetch_add_explicit(word, n, memory_order_acq_rel);
}

static inline bool compare_exchange_acq_rel(word_t *word, uint64_t *expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(word, expected, desired, memory_order_acq_rel,
                                                   memory_order_acquire);
}

/* For words with one writer: a load and a store instead of a locked add. A kill between the two
 * loses this one count and tears nothing; readers see the old number or the new one. */
static inline void bump_relaxed(word_t *word, uint64_t n)
{
    store_relaxed(word, load_relaxed(word) + n);
}

#endif
