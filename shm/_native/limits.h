/* The table of limits: shm/limits.py tells the idea, its rules and what was rejected; this is the same, step by step.
 *
 * Orders: tat is read with acquire before the key words and swapped (acq_rel) after them, so that a swap that
 * succeeds has seen the key that belongs to the value. Key words are stored with release, and read with acquire:
 * who sees one of a new key also sees, in a later read of tat, that the entry was BUSY. What a slot notes is
 * stored with release before the swap that makes somebody look at it.
 *
 * Every loop is bounded: windows, spins and attempts are constants of the layout.
 */
#ifndef SENTINEL_LIMITS_H
#define SENTINEL_LIMITS_H

#include "kernel.h"
#include "siphash.h"

#define COUNT_MASK ((UINT64_C(1) << TICKET_BITS) - 1)
#define SLOT_MASK ((UINT64_C(1) << (OFFSET_BITS - TICKET_BITS)) - 1)
#define TICKET_MASK ((UINT64_C(1) << OFFSET_BITS) - 1)
#define OFFSET_MASK ((UINT64_C(1) << (63 - OFFSET_BITS)) - 1)
#define LIMIT_MARKS (LIMIT_BUSY | LIMIT_VOID)
#define TIME_MASK (LIMIT_VOID - 1)
#define DECIDED LIMIT_BUSY
#define MARK_WORDS 3 /* entry, end, shift */

enum outcome { ADMITTED, REFUSED, FULL, AGAIN };

struct term {
    uint64_t increment, capacity, flags;
};

/* An entry, NULL for none, with its tat as it was when the key was found to be this one's. */
struct found {
    word_t *entry;
    uint64_t tat;
};

/* What one limit was charged. */
struct payment {
    enum outcome outcome;
    word_t *entry;
    uint64_t before, after;
    uint64_t shift; /* what was given back of the bucket by then, where it is marked */
};

_Static_assert(sizeof(struct term) == LIMIT_TERM_WORDS * 8, "terms are copied from words");
_Static_assert(HEADER_SECRET_HIGH < SLOT_WORDS, "the header's secret lies in every region that holds a slot");

static inline void limits_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline struct hash limits_hash(const struct region *region, const unsigned char *key, uint64_t length)
{
    return siphash_128(load_relaxed(region->words + HEADER_SECRET_LOW),
                       load_relaxed(region->words + HEADER_SECRET_HIGH), key, length);
}

static inline word_t *limits_entry(const struct region *region, uint64_t index)
{
    return region->words + region->limits + (index & region->limits_mask) * LIMIT_WORDS;
}

static inline uint64_t limits_index(const struct region *region, const word_t *entry)
{
    return (uint64_t)(entry - (region->words + region->limits)) / LIMIT_WORDS;
}

/* What was given back of an entry's bucket; of a table of limits only. */
static inline word_t *limits_shift(const struct region *region, const word_t *entry)
{
    return region->words + region->limits + (region->limits_mask + 1) * LIMIT_WORDS
           + limits_index(region, entry) * SHIFT_WORDS;
}

static inline bool limits_swap(word_t *word, uint64_t expected, uint64_t desired)
{
    return compare_exchange_acq_rel(word, &expected, desired);
}

static inline uint64_t limits_higher(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline bool limits_is_past(uint64_t peak, uint64_t now)
{
    return peak == 0 || peak < now;
}

static inline struct found limits_find(const struct region *region, struct hash key)
{
    for (uint64_t step = 0; step < LIMIT_WINDOW; step++) {
        word_t *entry = limits_entry(region, key.low + step);
        uint64_t tat = load_acquire(entry + LIMIT_TAT);
        if (tat == 0)
            break;
        if (!(tat & LIMIT_MARKS) && load_acquire(entry + LIMIT_KEY_LOW) == key.low
            && load_acquire(entry + LIMIT_KEY_HIGH) == key.high)
            return (struct found){entry, tat};
    }
    return (struct found){NULL, 0};
}

/* The same, with the tat and the key true at one moment. */
static inline struct found limits_look(const struct region *region, struct hash key)
{
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        if (found.entry == NULL || load_acquire(found.entry + LIMIT_TAT) == found.tat)
            return found;
    }
    return (struct found){NULL, 0};
}

/* Do the last two steps of an insertion that is decided, whoever began it. */
static inline void limits_help(const struct region *region, uint64_t stripe, uint64_t held)
{
    uint64_t slot = held >> TICKET_BITS & SLOT_MASK, offset = held >> OFFSET_BITS & OFFSET_MASK;

    if (slot < region->slots_max) {
        /* If the slot has gone on to another insertion this is another's number, but then the ticket has gone too. */
        uint64_t after = load_acquire(slot_of(region, slot) + SLOT_LIMIT_AFTER);
        word_t *entry = limits_entry(region, stripe * region->stripe + offset);
        limits_swap(entry + LIMIT_TAT, LIMIT_BUSY | (held & TICKET_MASK), after);
    }
    limits_swap(region->words + region->guards + stripe, held, 0);
}

/* Leave a claimed entry to nobody: with more than it ever held. */
static inline void limits_undo(const struct region *region, uint64_t slot, word_t *entry)
{
    uint64_t peak = load_acquire(entry + LIMIT_PEAK), before = load_acquire(slot_of(region, slot) + SLOT_LIMIT_BEFORE);
    store_release(entry + LIMIT_TAT, LIMIT_VOID | (limits_higher(before, peak + 1) & TIME_MASK));
}

/* Take the guard: when it is free, or when its holder has been silent for long enough. */
static inline bool limits_enter(const struct region *region, uint64_t slot, uint64_t stripe, uint64_t ticket,
                                int attempt)
{
    word_t *guard = region->words + region->guards + stripe;
    int spins = LIMIT_SPINS << (attempt < LIMIT_SPIN_DOUBLINGS ? attempt : LIMIT_SPIN_DOUBLINGS);
    uint64_t held = 0;

    for (int i = 0; i < spins; i++) {
        held = load_acquire(guard);
        if (held == 0 || held & DECIDED)
            break;
        limits_pause();
    }
    if (held & DECIDED) {
        limits_help(region, stripe, held);
        return false;
    }
    if (!limits_swap(guard, held, ticket))
        return false;
    if (held)
        bump_relaxed(slot_of(region, slot) + SLOT_COUNTERS + COUNTER_LIMITS_STOLEN, 1);
    return true;
}

/* What the whole fleet holds under the key of an entry. */
static inline uint64_t leases_held(const struct region *region, const word_t *entry)
{
    const word_t *holding = region->words + region->holdings + limits_index(region, entry) * region->holding_words;
    uint64_t used = load_acquire(region->words + HEADER_SLOTS_USED), held = 0;

    for (uint64_t slot = 0; slot < used && slot < region->slots_max; slot++)
        held += load_acquire(holding + slot * region->holdings_stride);
    return held;
}

/* The first entry of the window that no key needs. */
static inline struct found limits_vacant(const struct region *region, uint64_t home, uint64_t now)
{
    for (uint64_t step = 0; step < LIMIT_WINDOW; step++) {
        word_t *entry = limits_entry(region, home + step);
        uint64_t tat = load_acquire(entry + LIMIT_TAT);
        if (tat == 0)
            return (struct found){entry, tat};
        if (tat & LIMIT_BUSY || (tat & TIME_MASK) + LIMIT_GRACE_NS >= now)
            continue;
        if (!limits_is_past(load_acquire(entry + LIMIT_PEAK), now))
            continue;
        if (region->holdings_stride == 0 || leases_held(region, entry) == 0)
            return (struct found){entry, tat};
    }
    return (struct found){NULL, 0};
}

/* A number that no insertion had before; counted before it is used, so that it outlives whoever used it. */
static inline uint64_t limits_ticket(word_t *place, uint64_t slot)
{
    uint64_t count = (load_relaxed(place + SLOT_LIMIT_TICKET) + 1) & COUNT_MASK;
    if (count == 0)
        count = 1;
    store_release(place + SLOT_LIMIT_TICKET, count);
    return slot << TICKET_BITS | count;
}

/* Give the key an entry that is charged already. */
static inline struct payment limits_insert(const struct region *region, uint64_t slot, uint64_t now, struct hash key,
                                           uint64_t after, int attempt)
{
    word_t *place = slot_of(region, slot);
    uint64_t home = key.low & region->limits_mask, stripe = home / region->stripe;
    word_t *guard = region->words + region->guards + stripe;
    uint64_t ticket = limits_ticket(place, slot);
    struct payment again = {AGAIN, NULL, 0, 0, 0}, full = {FULL, NULL, 0, 0, 0};

    store_release(place + SLOT_LIMIT_GUARD, stripe);
    if (!limits_enter(region, slot, stripe, ticket, attempt))
        return again;
    struct found found = limits_find(region, key);
    struct found vacant = found.entry ? found : limits_vacant(region, home, now);
    if (found.entry || vacant.entry == NULL) {
        limits_swap(guard, ticket, 0);
        return found.entry ? again : full;
    }
    word_t *entry = vacant.entry;
    uint64_t index = limits_index(region, entry);
    store_release(place + SLOT_LIMIT_ENTRY, index);
    store_release(place + SLOT_LIMIT_BEFORE, now);
    store_release(place + SLOT_LIMIT_AFTER, after);
    if (!limits_swap(entry + LIMIT_TAT, vacant.tat, LIMIT_BUSY | ticket)) {
        limits_swap(guard, ticket, 0);
        return again;
    }
    uint64_t offset = (index - stripe * region->stripe) & region->limits_mask;
    uint64_t decided = DECIDED | offset << OFFSET_BITS | ticket;
    /* A bucket was charged and given back between the look and the claim: more than its peak is needed here. */
    bool is_fit = limits_is_past(load_acquire(entry + LIMIT_PEAK), now);
    if (is_fit) {
        store_release(entry + LIMIT_KEY_LOW, key.low);
        store_release(entry + LIMIT_KEY_HIGH, key.high);
    }
    if (!is_fit || !limits_swap(guard, ticket, decided)) {
        limits_undo(region, slot, entry);
        limits_swap(guard, ticket, 0);
        return again;
    }
    /* Helpers may have done either by now. */
    limits_swap(entry + LIMIT_TAT, LIMIT_BUSY | ticket, after);
    limits_swap(guard, decided, 0);
    if (vacant.tat && !(vacant.tat & LIMIT_VOID))
        bump_relaxed(place + SLOT_COUNTERS + COUNTER_LIMITS_RECLAIMED, 1);
    return (struct payment){ADMITTED, entry, now, after, 0};
}

/* Charge one limit; `seen` is where its key was a moment ago, if anywhere. */
static inline struct payment limits_take(const struct region *region, uint64_t slot, uint64_t now, struct hash key,
                                         const struct term *term, struct found seen, bool is_marked)
{
    uint64_t shift = 0;

    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = seen.entry && attempt == 0 ? seen : limits_find(region, key);
        if (found.entry) {
            uint64_t after = limits_higher(found.tat, now) + term->increment;
            if (after - now <= term->capacity) {
                if (is_marked) /* before the swap: what is given back after it moves what is charged here */
                    shift = load_acquire(limits_shift(region, found.entry) + SHIFT_DONE);
                if (limits_swap(found.entry + LIMIT_TAT, found.tat, after))
                    return (struct payment){ADMITTED, found.entry, found.tat, after, shift};
            } else if (load_acquire(found.entry + LIMIT_TAT) == found.tat) {
                return (struct payment){REFUSED, found.entry, found.tat, found.tat, 0};
            }
            continue;
        }
        if (term->increment > term->capacity)
            return (struct payment){REFUSED, NULL, 0, 0, 0};
        if (term->increment == 0)
            return (struct payment){ADMITTED, NULL, 0, 0, 0};
        struct payment inserted = limits_insert(region, slot, now, key, now + term->increment, attempt);
        if (inserted.outcome == ADMITTED && is_marked) /* nothing is before it that could be given back */
            inserted.shift = load_acquire(limits_shift(region, inserted.entry) + SHIFT_DONE);
        if (inserted.outcome != AGAIN)
            return inserted;
    }
    return (struct payment){FULL, NULL, 0, 0, 0};
}

static inline bool limits_give_back(struct payment paid)
{
    if (paid.entry == NULL)
        return true;
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        uint64_t peak = load_acquire(paid.entry + LIMIT_PEAK);
        if (peak >= paid.after || limits_swap(paid.entry + LIMIT_PEAK, peak, paid.after))
            return limits_swap(paid.entry + LIMIT_TAT, paid.after, paid.before);
    }
    return false;
}

static inline uint64_t limits_limiting(uint64_t tat, uint64_t now)
{
    return tat > now ? tat : 0;
}

/* Charge all these limits or none; `tats` are filled, `index` is the limit that refused, or -1. `marks`, if it is not
 * NULL: three words of each, its entry, where its charge ends, and its shift. */
static inline enum outcome limits_charge(const struct region *region, uint64_t slot, uint64_t now, int count,
                                         const struct hash *keys, const struct term *terms, uint64_t *tats, int *index,
                                         uint64_t *marks)
{
    word_t *counters = slot_of(region, slot) + SLOT_COUNTERS;
    struct found seen[LIMIT_KEYS_MAX] = {{NULL, 0}};
    struct payment paid[LIMIT_KEYS_MAX];
    bool is_passed[LIMIT_KEYS_MAX] = {false};
    enum outcome outcome = ADMITTED;
    int at, places[LIMIT_KEYS_MAX], paid_count = 0;

    *index = -1;
    for (at = 0; at < MARK_WORDS * count && marks != NULL; at++)
        marks[at] = 0;
    for (at = 0; at < count; at++) {
        tats[at] = 0;
        /* Memory is slower than all of this: have every home on its way before the first is looked at. */
        __builtin_prefetch((const void *)limits_entry(region, keys[at].low), 1);
    }
    for (at = 0; at < count && count > 1; at++) {
        seen[at] = limits_look(region, keys[at]);
        tats[at] = limits_limiting(seen[at].tat, now);
        if (limits_higher(seen[at].tat, now) + terms[at].increment - now <= terms[at].capacity)
            continue;
        is_passed[at] = true;
        if (!(terms[at].flags & LIMIT_OBSERVE) && *index < 0) {
            outcome = REFUSED;
            *index = at;
        }
    }
    for (at = 0; at < count && *index < 0; at++) {
        if (is_passed[at])
            continue;
        struct payment now_paid = limits_take(region, slot, now, keys[at], &terms[at], seen[at], marks != NULL);
        tats[at] = limits_limiting(now_paid.after, now);
        if (now_paid.outcome == ADMITTED) {
            if (marks != NULL && now_paid.entry != NULL) {
                marks[MARK_WORDS * at] = limits_index(region, now_paid.entry);
                marks[MARK_WORDS * at + 1] = now_paid.after;
                marks[MARK_WORDS * at + 2] = now_paid.shift;
            }
            places[paid_count] = at;
            paid[paid_count++] = now_paid;
            continue;
        }
        if (now_paid.outcome == FULL)
            bump_relaxed(counters + COUNTER_LIMITS_FULL, 1);
        if (terms[at].flags & LIMIT_OBSERVE || (now_paid.outcome == FULL && !(terms[at].flags & LIMIT_CLOSED)))
            continue;
        outcome = now_paid.outcome;
        *index = at;
    }
    if (*index < 0) {
        bump_relaxed(counters + COUNTER_LIMITS_CHARGED, (uint64_t)paid_count);
        return ADMITTED;
    }
    if (outcome == REFUSED)
        bump_relaxed(counters + COUNTER_LIMITS_REFUSED, 1);
    while (paid_count-- > 0)
        if (limits_give_back(paid[paid_count]))
            tats[places[paid_count]] = limits_limiting(paid[paid_count].before, now);
    for (at = 0; at < MARK_WORDS * count && marks != NULL; at++)
        marks[at] = 0;
    return outcome;
}

/* Give back of a charge with this mark what no time has filled: announced before tat is swapped, done after it. */
static inline uint64_t limits_give_back_later(const struct region *region, uint64_t now, struct hash key,
                                              const uint64_t *mark, uint64_t amount)
{
    uint64_t end = mark[1], shift = mark[2];
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        if (found.entry == NULL || limits_index(region, found.entry) != mark[0])
            return 0;
        word_t *word = limits_shift(region, found.entry);
        uint64_t announced = load_acquire(word + SHIFT_ANNOUNCED), moved = announced - shift;
        if (moved >= end || end - moved <= now || found.tat <= now)
            return 0;
        uint64_t front = end - moved - now, left = found.tat - now;
        uint64_t back = amount < front ? amount : front;
        back = back < left ? back : left;
        if (back == 0)
            return 0;
        if (!limits_swap(word + SHIFT_ANNOUNCED, announced, announced + back))
            continue;
        if (limits_give_back((struct payment){ADMITTED, found.entry, found.tat - back, found.tat, 0})) {
            fetch_add_acq_rel(word + SHIFT_DONE, back);
            return back;
        }
        fetch_add_acq_rel(word + SHIFT_ANNOUNCED, 0 - back);
    }
    return 0;
}

/* Charge what was taken beyond a charge, whatever the capacity. */
static inline uint64_t limits_take_more(const struct region *region, uint64_t slot, uint64_t now, struct hash key,
                                        uint64_t amount)
{
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        if (found.entry == NULL) {
            struct payment inserted = limits_insert(region, slot, now, key, now + amount, attempt);
            if (inserted.outcome != AGAIN)
                return inserted.outcome == ADMITTED ? amount : 0;
            continue;
        }
        uint64_t before = limits_higher(found.tat, now), after = before + amount;
        if (after > now + LIMIT_TERM_MAX_NS)
            after = limits_higher(found.tat, now + LIMIT_TERM_MAX_NS);
        if (limits_swap(found.entry + LIMIT_TAT, found.tat, after))
            return after - before;
    }
    return 0;
}

static inline uint64_t limits_peek(const struct region *region, uint64_t now, struct hash key)
{
    return limits_limiting(limits_look(region, key).tat, now);
}

/* One swap: who dies before or after it has nothing in his hands. */
static inline bool limits_reset(const struct region *region, uint64_t now, struct hash key)
{
    for (int attempt = 0; attempt < LIMIT_ATTEMPTS_MAX; attempt++) {
        struct found found = limits_find(region, key);
        if (found.entry == NULL || found.tat <= now)
            return false;
        if (limits_swap(found.entry + LIMIT_TAT, found.tat, LIMIT_VOID | found.tat))
            return true;
    }
    return false;
}

/* Finish, or undo, the insertion in which the slot's process died: its words do not change under us. */
static inline void limits_reap(const struct region *region, uint64_t slot)
{
    const word_t *place = slot_of(region, slot);
    uint64_t stripe = load_acquire(place + SLOT_LIMIT_GUARD) & region->guards_mask;
    word_t *guard = region->words + region->guards + stripe;
    word_t *entry = limits_entry(region, load_acquire(place + SLOT_LIMIT_ENTRY));
    uint64_t held = load_acquire(guard);

    if (held && (held >> TICKET_BITS & SLOT_MASK) == slot) {
        if (held & DECIDED)
            limits_help(region, stripe, held);
        else
            limits_swap(guard, held, 0); /* If somebody robs the guard at this moment, it is his. */
    }
    uint64_t tat = load_acquire(entry + LIMIT_TAT);
    if (tat & LIMIT_BUSY && (tat >> TICKET_BITS & SLOT_MASK) == slot)
        limits_undo(region, slot, entry);
}

/* Entries that were ever used, are live, void and busy. */
static inline void limits_statistics(const struct region *region, uint64_t now, uint64_t *counts)
{
    memset(counts, 0, 4 * sizeof *counts);
    for (uint64_t index = 0; index <= region->limits_mask; index++) {
        uint64_t tat = load_relaxed(limits_entry(region, index) + LIMIT_TAT);
        counts[0] += tat != 0;
        counts[1] += !(tat & LIMIT_MARKS) && tat > now;
        counts[2] += (tat & LIMIT_MARKS) == LIMIT_VOID;
        counts[3] += (tat & LIMIT_BUSY) != 0;
    }
}

#endif
