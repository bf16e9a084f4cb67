/* What is done to a region, without Python: so that threads may test it under a race detector.
 *
 * Places come from layout.h, which shm/layout.py writes. Callers have checked slot, series, reason,
 * counter and length; `struct region` was checked against the end of the memory when it was made.
 * Every loop here is bounded by a constant of the layout. Its twin is shm/twin.py.
 */
#ifndef SENTINEL_KERNEL_H
#define SENTINEL_KERNEL_H

#include <string.h>

#include "atomics.h"
#include "layout.h"

#define LENGTH_MASK ((UINT64_C(1) << LENGTH_BITS) - 1)
#define SEQUENCE_MASK (UINT64_MAX >> LENGTH_BITS)
#define PUBLISH_ATTEMPTS_MAX 64

/* All offsets and strides in words. */
struct region {
    word_t *words;
    uint64_t words_count;
    uint64_t slots_max, series_max, journal_records;
    uint64_t slots, rings, ring_stride, counters, counters_stride;
    uint64_t limits, limits_mask, guards, guards_mask, stripe;
    uint64_t holdings, holdings_stride, holding_words; /* of a table of leases or budgets; 0 in one of limits */
    uint64_t titles; /* of a table of budgets */
    uint64_t places_max, places, flights, flights_stride, tolls, tolls_stride;
};

static const uint64_t bounds_ns[] = BOUNDS_NS;
_Static_assert(sizeof bounds_ns / sizeof bounds_ns[0] == BUCKETS - 1, "the last bucket has no bound");
_Static_assert(CELL_PAYLOAD * 8 + JOURNAL_RECORD_BYTES == CELL_WORDS * 8, "a record fills its cell");

static const uint64_t failing[] = FAILING_REASONS;
_Static_assert(sizeof failing * 8 == REASONS_MAX, "a bit for each reason");

/* Whether an exchange speaks against its generation; `reason` was checked. */
static inline bool is_failure(uint64_t kind, uint64_t reason)
{
    return failing[reason / 64] >> reason % 64 & 1 || (kind == 5 && reason == RELAYED_REASON);
}

static inline word_t *slot_of(const struct region *region, uint64_t slot)
{
    return region->words + region->slots + slot * SLOT_WORDS;
}

static inline word_t *cell_of(const struct region *region, uint64_t slot, uint64_t sequence)
{
    return region->words + region->rings + slot * region->ring_stride
           + sequence % region->journal_records * CELL_WORDS;
}

static inline uint64_t bucket_of(uint64_t duration_ns)
{
    uint64_t bucket = 0;
    while (bucket < BUCKETS - 1 && duration_ns > bounds_ns[bucket])
        bucket++;
    return bucket;
}

/* Count one exchange. All cells have one writer, so that relaxed stores suffice: a reader adds up
 * single words and is told nothing about their relation. */
static inline void kernel_record(const struct region *region, uint64_t slot, uint64_t series, uint64_t status,
                                 uint64_t reason, uint64_t duration_ns, uint64_t bytes_in, uint64_t bytes_out)
{
    word_t *place = slot_of(region, slot);
    word_t *cell = region->words + region->counters + slot * region->counters_stride + series * SERIES_WORDS;
    word_t *life = place + SLOT_LIVES + (load_relaxed(place + SLOT_LIFE) >> STAGE_BITS) % LIVES * LIFE_WORDS;
    uint64_t kind = status >= 100 && status <= 599 ? status / 100 : 0;

    bump_relaxed(cell + SERIES_CLASSES + kind, 1);
    bump_relaxed(cell + SERIES_REASONS + reason, 1);
    bump_relaxed(cell + SERIES_HISTOGRAM + bucket_of(duration_ns), 1);
    bump_relaxed(cell + SERIES_DURATION_SUM_NS, duration_ns);
    bump_relaxed(cell + SERIES_BYTES_IN, bytes_in);
    bump_relaxed(cell + SERIES_BYTES_OUT, bytes_out);
    bump_relaxed(life + 1, 1);
    if (is_failure(kind, reason))
        bump_relaxed(life + 2, 1);
}

/* The heartbeat last: pairs with the acquire by which the supervisor reads it before the gauges. */
static inline void kernel_beat(const struct region *region, uint64_t slot, uint64_t now_ns, uint64_t connections,
                               uint64_t requests)
{
    word_t *place = slot_of(region, slot);
    store_relaxed(place + SLOT_OPEN_CONNECTIONS, connections);
    store_relaxed(place + SLOT_OPEN_REQUESTS, requests);
    store_release(place + SLOT_HEARTBEAT_NS, now_ns);
}

/* Append to the slot's ring. Every word of the payload is stored with release, so that whoever reads
 * one of the new words (acquire) and then the cell's word sees at least the 0: it cannot take a
 * mixture of two records for either. The head comes last; see Slots._mend_journal for a death before. */
static inline void kernel_journal_write(const struct region *region, uint64_t slot, const unsigned char *record,
                                        uint64_t length)
{
    word_t *head = slot_of(region, slot) + SLOT_JOURNAL_HEAD;
    uint64_t sequence = load_relaxed(head);
    word_t *cell = cell_of(region, slot, sequence);
    uint64_t whole = length / 8, rest = length % 8, part = 0;

    store_relaxed(cell + CELL_WORD, 0);
    for (uint64_t i = 0; i < whole; i++) {
        memcpy(&part, record + i * 8, 8);
        store_release(cell + CELL_PAYLOAD + i, part);
    }
    if (rest) {
        part = 0;
        memcpy(&part, record + whole * 8, rest);
        store_release(cell + CELL_PAYLOAD + whole, part);
    }
    store_release(cell + CELL_WORD, (sequence + 1) << LENGTH_BITS | length);
    store_release(head, sequence + 1);
}

/* The record of this number into `record` (JOURNAL_RECORD_BYTES long); its length, or -1. Pairs with
 * the releases of kernel_journal_write: the second load of the cell's word cannot come before those of
 * the payload, which are acquires. */
static inline int kernel_journal_read(const struct region *region, uint64_t slot, uint64_t sequence,
                                      unsigned char *record)
{
    const word_t *cell = cell_of(region, slot, sequence);
    uint64_t word = load_acquire(cell + CELL_WORD), length = word & LENGTH_MASK;

    if (word == 0 || word >> LENGTH_BITS != ((sequence + 1) & SEQUENCE_MASK) || length > JOURNAL_RECORD_BYTES)
        return -1;
    for (uint64_t i = 0; i * 8 < length; i++) {
        uint64_t part = load_acquire(cell + CELL_PAYLOAD + i);
        memcpy(record + i * 8, &part, length - i * 8 < 8 ? length - i * 8 : 8);
    }
    return load_relaxed(cell + CELL_WORD) == word ? (int)length : -1;
}

/* Raise a word that never goes back; whether this call raised it. Each failed attempt means that
 * another one raised it, so that more of them than processes cannot be. */
static inline bool kernel_publish(word_t *word, uint64_t value)
{
    uint64_t now = load_acquire(word);
    for (int i = 0; i < PUBLISH_ATTEMPTS_MAX && now < value; i++)
        if (compare_exchange_acq_rel(word, &now, value))
            return true;
    return false;
}

/* Word by word the sum of `count` blocks; the caller has checked that they are inside. */
static inline void kernel_sums(const word_t *words, uint64_t stride, uint64_t count, uint64_t size, uint64_t *total)
{
    memset(total, 0, size * sizeof *total);
    for (uint64_t block = 0; block < count; block++)
        for (uint64_t i = 0; i < size; i++)
            total[i] += load_relaxed(words + block * stride + i);
}

#endif
