/* Budgets: shm/budgets.py tells the idea, its rules and what was rejected; this is the same, step by step.
 *
 * The functions of limits.h and leases.h work on this table too: `region` is then a view of it, with its own entries,
 * guards, titles and rows.
 *
 * Orders: an amount is stored as open before tat is swapped (acq_rel), and the rows are read (acquire) after that. Who
 * settles stores what is spent (release) before what is open gets less (release); readers load open first (acquire): if
 * they see it less, they see what was spent. `whose` is stored (release) after what it is about became zero.
 */
#ifndef SENTINEL_BUDGETS_H
#define SENTINEL_BUDGETS_H

#include "leases.h"

#define BUDGET_INDEX_MASK ((UINT64_C(1) << BUDGET_INDEX_BITS) - 1)
#define BUDGET_SIGN (UINT64_C(1) << 63)
#define TITLE_TEXT_WORDS (TITLE_WORDS - TITLE_TEXT)

struct budget_term {
    uint64_t until, amount, limit, flags;
};

_Static_assert(sizeof(struct budget_term) == BUDGET_TERM_WORDS * 8, "terms are copied from words");
_Static_assert(SPENDING_OPEN == 0, "what is held is the first word of a record, as leases.h has it");

struct budget_key {
    struct hash hash;
    const unsigned char *text;
    uint64_t length;
};

struct spent {
    uint64_t settled, open, requests;
};

static inline word_t *budgets_row(const struct region *region, uint64_t index, uint64_t slot)
{
    return leases_holding(region, limits_entry(region, index), slot);
}

static inline word_t *budgets_title(const struct region *region, uint64_t index)
{
    return region->words + region->titles + (index & region->limits_mask) * TITLE_WORDS;
}

static inline struct spent budgets_sums(const struct region *region, uint64_t index, uint64_t whose)
{
    const word_t *title = budgets_title(region, index);
    uint64_t used = load_acquire(region->words + HEADER_SLOTS_USED);
    struct spent sums = {0, 0, 0};

    if (load_acquire(title + TITLE_WHOSE) == whose) {
        sums.settled = load_acquire(title + TITLE_CARRIED);
        sums.requests = load_acquire(title + TITLE_CARRIED_REQUESTS);
    }
    for (uint64_t slot = 0; slot < used && slot < region->slots_max; slot++) {
        const word_t *row = budgets_row(region, index, slot);
        sums.open += load_acquire(row + SPENDING_OPEN);
        if (load_acquire(row + SPENDING_WHOSE) == whose) {
            sums.settled += load_acquire(row + SPENDING_SETTLED);
            sums.requests += load_acquire(row + SPENDING_REQUESTS);
        }
    }
    return sums;
}

/* One writer: the slot's process. */
static inline void budgets_begin_row(word_t *row, uint64_t whose)
{
    if (load_relaxed(row + SPENDING_WHOSE) == whose)
        return;
    store_relaxed(row + SPENDING_SETTLED, 0);
    store_relaxed(row + SPENDING_REQUESTS, 0);
    store_release(row + SPENDING_WHOSE, whose);
}

/* Write down whose the entry is, if that does not stand there; two who do it write the same. */
static inline void budgets_entitle(const struct region *region, uint64_t index, const struct budget_key *key)
{
    word_t *title = budgets_title(region, index);

    if (load_acquire(title + TITLE_WHOSE) == key->hash.high)
        return;
    store_relaxed(title + TITLE_CARRIED, 0);
    store_relaxed(title + TITLE_CARRIED_REQUESTS, 0);
    store_relaxed(title + TITLE_LENGTH, key->length);
    for (uint64_t at = 0; at < TITLE_TEXT_WORDS; at++) {
        uint64_t word = 0, done = at * 8;
        if (done < key->length)
            memcpy(&word, key->text + done, key->length - done < 8 ? key->length - done : 8);
        store_relaxed(title + TITLE_TEXT + at, word);
    }
    store_release(title + TITLE_WHOSE, key->hash.high);
}

/* Have so much more open, if the limit allows it; AGAIN: begin again. `key` is NULL where the row is known to be its. */
static inline enum outcome budgets_take_along(const struct region *region, uint64_t slot, struct found found,
                                              uint64_t amount, uint64_t limit, const struct budget_key *key,
                                              uint64_t *used)
{
    uint64_t index = limits_index(region, found.entry);
    word_t *row = budgets_row(region, index, slot);

    *used = 0;
    leases_add(row + SPENDING_OPEN, amount);
    if (!limits_swap(found.entry + LIMIT_TAT, found.tat, found.tat + 1)) {
        leases_add(row + SPENDING_OPEN, 0 - amount);
        return AGAIN;
    }
    /* From here on the entry is the key's for as long as we have something open. */
    if (key != NULL) {
        budgets_begin_row(row, key->hash.high);
        budgets_entitle(region, index, key);
    }
    uint64_t whose = load_relaxed(row + SPENDING_WHOSE);
    struct spent sums = budgets_sums(region, index, whose);
    if (sums.settled + sums.open <= limit) {
        *used = sums.settled + sums.open;
        return ADMITTED;
    }
    leases_add(row + SPENDING_OPEN, 0 - amount);
    for (int i = 0; i < LIMIT_SPINS; i++) {
        sums = budgets_sums(region, index, whose);
        if (sums.settled + sums.open + amount <= limit)
            return AGAIN; /* others had come, and have gone away for the same reason */
        limits_pause();
    }
    *used = sums.settled + sums.open;
    return REFUSED;
}

static inline uint64_t budgets_end(uint64_t until, uint64_t now)
{
    return limits_higher(until, now + 1);
}

/* Reserve of one budget. */
static inline enum outcome budgets_reserve_one(const struct region *region, uint64_t slot, uint64_t now,
                                               const struct budget_key *key, const struct budget_term *term,
                                               uint64_t *used, uint64_t *index)
{
    uint64_t limit = term->flags & LIMIT_OBSERVE ? UINT64_MAX : term->limit;

    *used = *index = 0;
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key->hash);
        if (found.entry == NULL) {
            if (term->amount > limit)
                return REFUSED;
            if (limits_insert(region, slot, now, key->hash, budgets_end(term->until, now), attempt).outcome == FULL)
                return FULL;
            continue;
        }
        enum outcome outcome = budgets_take_along(region, slot, found, term->amount, limit, key, used);
        if (outcome != AGAIN) {
            *index = limits_index(region, found.entry);
            return outcome;
        }
    }
    return FULL;
}

/* Reserve of all these budgets, or of none; `index` is the one that refused, or -1. */
static inline enum outcome budgets_reserve(const struct region *region, uint64_t slot, uint64_t now, int count,
                                           const struct budget_key *keys, const struct budget_term *terms,
                                           uint64_t *used, uint64_t *leases, int *index)
{
    word_t *counters = slot_of(region, slot) + SLOT_COUNTERS;
    enum outcome outcome = ADMITTED;

    *index = -1;
    for (int at = 0; at < count; at++) {
        used[at] = 0;
        leases[at] = BUDGET_UNCOUNTED;
    }
    for (int at = 0; at < count && *index < 0; at++) {
        uint64_t place;
        outcome = budgets_reserve_one(region, slot, now, &keys[at], &terms[at], &used[at], &place);
        if (outcome == ADMITTED)
            leases[at] = keys[at].hash.high << BUDGET_INDEX_BITS | place;
        else if (outcome == FULL)
            bump_relaxed(counters + COUNTER_BUDGETS_FULL, 1);
        if (outcome == REFUSED
            || (outcome == FULL && terms[at].flags & LIMIT_CLOSED && !(terms[at].flags & LIMIT_OBSERVE)))
            *index = at;
    }
    if (*index < 0) {
        bump_relaxed(counters + COUNTER_BUDGETS_RESERVED, 1);
        return ADMITTED;
    }
    if (outcome == REFUSED)
        bump_relaxed(counters + COUNTER_BUDGETS_REFUSED, 1);
    for (int at = *index - 1; at >= 0; at--) {
        if (leases[at] == BUDGET_UNCOUNTED)
            continue;
        leases_add(budgets_row(region, leases[at] & BUDGET_INDEX_MASK, slot) + SPENDING_OPEN, 0 - terms[at].amount);
        leases[at] = BUDGET_UNCOUNTED;
    }
    return outcome;
}

/* Whether the entry is still the one that was reserved of, and the slot's row means it. */
static inline bool budgets_is_current(const struct region *region, uint64_t slot, uint64_t lease)
{
    const word_t *entry = limits_entry(region, lease & BUDGET_INDEX_MASK);
    uint64_t high = load_acquire(entry + LIMIT_KEY_HIGH);

    return lease >> BUDGET_INDEX_BITS == (high & UINT64_MAX >> BUDGET_INDEX_BITS)
           && load_relaxed(budgets_row(region, lease & BUDGET_INDEX_MASK, slot) + SPENDING_WHOSE) == high
           && !(load_acquire(entry + LIMIT_TAT) & LIMIT_MARKS);
}

static inline enum outcome budgets_extend(const struct region *region, uint64_t slot, uint64_t lease, uint64_t amount,
                                          uint64_t limit, uint64_t *used)
{
    word_t *entry = limits_entry(region, lease & BUDGET_INDEX_MASK);

    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = {entry, load_acquire(entry + LIMIT_TAT)};
        if (!budgets_is_current(region, slot, lease))
            break;
        enum outcome outcome = budgets_take_along(region, slot, found, amount, limit, NULL, used);
        if (outcome != AGAIN)
            return outcome;
    }
    bump_relaxed(slot_of(region, slot) + SLOT_COUNTERS + COUNTER_BUDGETS_LATE, 1);
    *used = 0;
    return REFUSED;
}

static inline bool budgets_settle(const struct region *region, uint64_t slot, uint64_t lease, uint64_t spent,
                                  uint64_t released, bool is_end)
{
    word_t *counters = slot_of(region, slot) + SLOT_COUNTERS;
    word_t *row = budgets_row(region, lease & BUDGET_INDEX_MASK, slot);

    if (!budgets_is_current(region, slot, lease)) {
        bump_relaxed(counters + COUNTER_BUDGETS_LATE, 1);
        return false;
    }
    if (!(spent & BUDGET_SIGN) && spent > released)
        bump_relaxed(counters + COUNTER_BUDGETS_OVERDRAWN, spent - released);
    uint64_t total = load_relaxed(row + SPENDING_SETTLED) + spent;
    if (total & BUDGET_SIGN)
        total = 0;
    store_release(row + SPENDING_SETTLED, total < BUDGET_AMOUNT_MAX ? total : BUDGET_AMOUNT_MAX);
    if (is_end)
        bump_relaxed(row + SPENDING_REQUESTS, 1);
    uint64_t open = load_relaxed(row + SPENDING_OPEN);
    store_release(row + SPENDING_OPEN, open - (released < open ? released : open));
    return true;
}

/* Put what was spent before this region was made; nobody else is there yet. */
static inline bool budgets_carry(const struct region *region, uint64_t slot, uint64_t now,
                                 const struct budget_key *key, uint64_t until, uint64_t settled, uint64_t requests)
{
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key->hash);
        if (found.entry == NULL) {
            if (limits_insert(region, slot, now, key->hash, budgets_end(until, now), attempt).outcome == FULL)
                return false;
            continue;
        }
        uint64_t index = limits_index(region, found.entry);
        word_t *title = budgets_title(region, index);
        budgets_entitle(region, index, key);
        store_release(title + TITLE_CARRIED, settled);
        store_release(title + TITLE_CARRIED_REQUESTS, requests);
        return true;
    }
    return false;
}

static inline struct spent budgets_spent(const struct region *region, struct hash key)
{
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        if (found.entry == NULL)
            break;
        struct spent sums = budgets_sums(region, limits_index(region, found.entry), key.high);
        if (limits_find(region, key).entry == found.entry)
            return sums;
    }
    return (struct spent){0, 0, 0};
}

#endif
