/* Leases: shm/leases.py tells the idea, its rules and what was rejected; this is the same, step by step.
 *
 * The functions of limits.h work on this table too: `region` is then a view of it, with its own entries, guards and
 * rows of holdings.
 *
 * Orders: a holder's own word is stored before it swaps tat (acq_rel), and the rows are read (acquire) after that. So
 * of two who hold, the one who swapped later sees both; and who read a tat and then a row of zeros, and swaps that
 * very tat away, has taken the entry from nobody.
 */
#ifndef SENTINEL_LEASES_H
#define SENTINEL_LEASES_H

#include "limits.h"

static inline word_t *leases_holding(const struct region *region, const word_t *entry, uint64_t slot)
{
    return region->words + region->holdings + slot * region->holdings_stride
           + limits_index(region, entry) * region->holding_words;
}

/* One writer: the slot's process, or its reaper. */
static inline void leases_add(word_t *holding, uint64_t n)
{
    store_release(holding, load_relaxed(holding) + n);
}

/* Hold one more under the key, unless `most` are held; how many are held, with this one, and where. */
static inline enum outcome leases_hold(const struct region *region, uint64_t slot, uint64_t now, struct hash key,
                                       uint64_t most, uint64_t *held, uint64_t *index)
{
    word_t *counters = slot_of(region, slot) + SLOT_COUNTERS;

    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        if (found.entry == NULL) {
            if (limits_insert(region, slot, now, key, now, attempt).outcome == FULL)
                break;
            continue;
        }
        word_t *holding = leases_holding(region, found.entry, slot);
        leases_add(holding, 1);
        if (!limits_swap(found.entry + LIMIT_TAT, found.tat, limits_higher(found.tat, now) + 1)) {
            leases_add(holding, UINT64_MAX);
            continue;
        }
        *held = leases_held(region, found.entry);
        if (*held <= most) {
            *index = limits_index(region, found.entry);
            return ADMITTED;
        }
        leases_add(holding, UINT64_MAX);
        /* Others may have come and gone away for the same reason. */
        for (int i = 0; i < LIMIT_SPINS && *held >= most; i++) {
            limits_pause();
            *held = leases_held(region, found.entry);
        }
        if (*held >= most) {
            bump_relaxed(counters + COUNTER_LEASES_REFUSED, 1);
            return REFUSED;
        }
    }
    *held = 0;
    bump_relaxed(counters + COUNTER_LEASES_FULL, 1);
    return FULL;
}

/* Give back one that was held; the caller has checked the index. */
static inline void leases_release(const struct region *region, uint64_t slot, uint64_t index)
{
    word_t *holding = leases_holding(region, limits_entry(region, index), slot);
    if (load_relaxed(holding))
        leases_add(holding, UINT64_MAX);
}

static inline uint64_t leases_peek(const struct region *region, struct hash key)
{
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        uint64_t held = found.entry ? leases_held(region, found.entry) : 0;
        /* A tat changes with every holder: what must not change in between is whose it is. */
        if (found.entry == NULL || limits_find(region, key).entry == found.entry)
            return held;
    }
    return 0;
}

/* What the slot's dead process held, nobody holds. */
static inline void leases_reap(const struct region *region, uint64_t slot)
{
    limits_reap(region, slot);
    for (uint64_t index = 0; index <= region->limits_mask; index++) {
        const word_t *entry = limits_entry(region, index);
        if (load_relaxed(entry + LIMIT_TAT))
            store_release(leases_holding(region, entry, slot), 0);
    }
}

/* Entries that were ever used, that hold something, what they hold, and that are busy. */
static inline void leases_statistics(const struct region *region, uint64_t *counts)
{
    memset(counts, 0, 4 * sizeof *counts);
    for (uint64_t index = 0; index <= region->limits_mask; index++) {
        const word_t *entry = limits_entry(region, index);
        uint64_t tat = load_relaxed(entry + LIMIT_TAT), held = tat ? leases_held(region, entry) : 0;
        counts[0] += tat != 0;
        counts[1] += held != 0;
        counts[2] += held;
        counts[3] += (tat & LIMIT_BUSY) != 0;
    }
}

#endif
