/* Places of upstreams and endpoints: shm/places.py tells the idea and its rules; this is the same, word by word.
 *
 * Every change of a shared word is one compare-and-swap, so that a process may be killed anywhere. A row of
 * requests in flight has one writer; only where a ceiling is asked for do its stores and the sums over all rows
 * need one order (seq_cst): of two that begin at the same time, at least one sees the other.
 *
 * Times are milliseconds after boot. Loops are bounded: attempts, slots in use, places that were given.
 */
#ifndef SENTINEL_PLACES_H
#define SENTINEL_PLACES_H

#include "kernel.h"

#define PLACE_ATTEMPTS_MAX 256
#define BREAKER_UNTIL_MAX ((UINT64_C(1) << 40) - 1)
#define BREAKER_TRIPS_MAX 63
#define BREAKER_COUNT_MAX 255
#define STAMP_MAX ((UINT64_C(1) << (64 - STAMP_BITS)) - 1)
#define QUANTITY_MAX ((UINT64_C(1) << STAMP_BITS) - 1)
#define WINDOW_MAX ((UINT64_C(1) << WINDOW_BITS) - 1)
#define WINDOW_NUMBER_MASK ((UINT64_C(1) << (64 - 3 * WINDOW_BITS)) - 1)
#define LEADER_SLOT_MASK ((UINT64_C(1) << LEADER_SLOT_BITS) - 1)
#define LEADER_GENERATION_MASK ((UINT64_C(1) << LEADER_GENERATION_BITS) - 1)
#define LEADER_EXPIRY_BITS (LEADER_SLOT_BITS + LEADER_GENERATION_BITS)

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
enum place_refusal { REFUSED_ENDPOINT_BREAKER = 1, REFUSED_UPSTREAM_BREAKER, REFUSED_ENDPOINT_FULL,
                     REFUSED_UPSTREAM_FULL };
enum place_outcome { OUTCOME_SUCCESS, OUTCOME_FAILURE, OUTCOME_NEUTRAL };
enum place_change { CHANGE_OPENED = 1, CHANGE_CLOSED = 2 };
enum place_standing { STANDING_USABLE, STANDING_DRAIN, STANDING_MAINTENANCE, STANDING_UNHEALTHY, STANDING_EJECTED,
                      STANDING_OPEN };

struct breaker_terms {
    uint64_t failures, error_share, slow_ms, slow_share, calls_min, window_ms, open_ms, open_max_ms, probes, probe_ms;
};

struct place_terms {
    struct breaker_terms endpoint, upstream;
    uint64_t endpoint_max, upstream_max, half_life_ms, earned;
};
_Static_assert(sizeof(struct place_terms) == PLACE_TERM_WORDS * 8, "terms are copied from words");

/* The rounds that a request probes in; 0 in neither. */
struct permit {
    uint64_t endpoint, upstream;
};

static inline word_t *place_of(const struct region *region, uint64_t place)
{
    return region->words + region->places + place * PLACE_WORDS;
}

static inline word_t *flight_of(const struct region *region, uint64_t slot, uint64_t place)
{
    return region->words + region->flights + slot * region->flights_stride + place;
}

static inline word_t *toll_of(const struct region *region, uint64_t slot, uint64_t place)
{
    return region->words + region->tolls + slot * region->tolls_stride + place * TOLL_WORDS;
}

static inline uint64_t place_least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t slots_in_use(const struct region *region)
{
    return place_least_of(load_acquire(region->words + HEADER_SLOTS_USED), region->slots_max);
}

static inline uint64_t flights_of(const struct region *region, uint64_t place, uint64_t used)
{
    uint64_t sum = 0;
    for (uint64_t slot = 0; slot < used; slot++)
        sum += load_relaxed(flight_of(region, slot, place));
    return sum;
}

static inline word_t *burden_of(const struct region *region, uint64_t slot, uint64_t place)
{
    return flight_of(region, slot, region->places_max + place);
}

static inline uint64_t burdens_of(const struct region *region, uint64_t place, uint64_t used)
{
    uint64_t sum = 0;
    for (uint64_t slot = 0; slot < used; slot++)
        sum += place_least_of(load_relaxed(burden_of(region, slot, place)), BURDEN_MAX);
    return place_least_of(sum, BURDEN_MAX);
}

/* The breaker: sentinel/core/machines/breaker.py */

static inline uint64_t breaker_join(uint64_t state, uint64_t until, uint64_t trips, uint64_t given, uint64_t passed)
{
    return place_least_of(until, BREAKER_UNTIL_MAX) << 24 | passed << 16 | given << 8
           | place_least_of(trips, BREAKER_TRIPS_MAX) << 2 | state;
}

static inline uint64_t breaker_state(uint64_t word)
{
    return (word & 3) < 3 ? word & 3 : BREAKER_CLOSED;
}

static inline bool breaker_looks(const struct breaker_terms *terms)
{
    return terms->failures || terms->error_share || terms->slow_ms;
}

/* 0 it may pass, 1 it is refused; *round is the one that it probes in, or 0. */
static inline int breaker_ask(word_t *breaker, uint64_t now, const struct breaker_terms *terms, uint64_t *round)
{
    uint64_t word = load_acquire(breaker);
    *round = 0;
    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        uint64_t state = breaker_state(word), until = word >> 24, given = word >> 8 & BREAKER_COUNT_MAX, next;
        if (state == BREAKER_CLOSED)
            return 0;
        if (now >= until) {
            uint64_t deadline = now + terms->probe_ms > until + 1 ? now + terms->probe_ms : until + 1;
            *round = place_least_of(deadline, BREAKER_UNTIL_MAX);
            next = breaker_join(BREAKER_HALF_OPEN, deadline, word >> 2 & BREAKER_TRIPS_MAX, 1, 0);
        } else if (state == BREAKER_HALF_OPEN && given < terms->probes) {
            *round = until;
            next = word + (1 << 8);
        } else {
            return 1;
        }
        if (compare_exchange_acq_rel(breaker, &word, next))
            return 0;
        *round = 0;
    }
    return 1;
}

static inline bool breaker_would_refuse(uint64_t word, uint64_t now, uint64_t probes)
{
    uint64_t state = breaker_state(word);
    return state != BREAKER_CLOSED && now < word >> 24
           && (state == BREAKER_OPEN || (word >> 8 & BREAKER_COUNT_MAX) >= probes);
}

static inline void breaker_give_back(word_t *breaker, uint64_t round)
{
    uint64_t word = load_acquire(breaker);
    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        if (breaker_state(word) != BREAKER_HALF_OPEN || word >> 24 != round || !(word >> 8 & BREAKER_COUNT_MAX)
            || compare_exchange_acq_rel(breaker, &word, word - (1 << 8)))
            return;
    }
}

static inline uint64_t breaker_tripped(uint64_t now, uint64_t trips, const struct breaker_terms *terms)
{
    uint64_t count = trips > 1 ? trips : 1, doubled = count - 1 < 20 ? count - 1 : 20;
    uint64_t open_ms = place_least_of(terms->open_ms << doubled, terms->open_max_ms);
    return breaker_join(BREAKER_OPEN, now + (terms->open_ms > open_ms ? terms->open_ms : open_ms), count, 0, 0);
}

/* Counts */

static inline void window_clear(word_t *place)
{
    store_release(place + PLACE_CONSECUTIVE, 0);
    for (uint64_t at = 0; at < SUBWINDOWS; at++)
        store_release(place + PLACE_WINDOW + at, 0);
}

/* Count a call in its tenth of the window, and add up the tenths that are not over. */
static inline void window_count(word_t *place, uint64_t now, uint64_t window_ms, bool is_failure, bool is_slow,
                                uint64_t *sums)
{
    uint64_t number = now / (window_ms / SUBWINDOWS ? window_ms / SUBWINDOWS : 1);
    word_t *word = place + PLACE_WINDOW + number % SUBWINDOWS;
    uint64_t seen = load_acquire(word), tag = (number & WINDOW_NUMBER_MASK) << 3 * WINDOW_BITS;

    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        uint64_t base = seen >> 3 * WINDOW_BITS == (number & WINDOW_NUMBER_MASK) ? seen : tag;
        if ((base & WINDOW_MAX) == WINDOW_MAX)
            break;
        uint64_t next = base + 1 + ((uint64_t)is_failure << WINDOW_BITS) + ((uint64_t)is_slow << 2 * WINDOW_BITS);
        if (compare_exchange_acq_rel(word, &seen, next))
            break;
    }
    sums[0] = sums[1] = sums[2] = 0;
    for (uint64_t at = 0; at < SUBWINDOWS; at++) {
        uint64_t tenth = load_acquire(place + PLACE_WINDOW + at);
        if (((number - (tenth >> 3 * WINDOW_BITS)) & WINDOW_NUMBER_MASK) < SUBWINDOWS) {
            sums[0] += tenth & WINDOW_MAX;
            sums[1] += tenth >> WINDOW_BITS & WINDOW_MAX;
            sums[2] += tenth >> 2 * WINDOW_BITS & WINDOW_MAX;
        }
    }
}

static inline uint64_t count_in_a_row(word_t *place, bool is_failure)
{
    word_t *word = place + PLACE_CONSECUTIVE;
    if (is_failure)
        return fetch_add_acq_rel(word, 1) + 1;
    if (load_relaxed(word))
        store_release(word, 0);
    return 0;
}

/* What an attempt found is told to a breaker; what that changed. */
static inline int breaker_told(word_t *place, uint64_t now, const struct breaker_terms *terms, uint64_t round,
                               bool is_failure, uint64_t latency_ms)
{
    word_t *breaker = place + PLACE_BREAKER;
    bool is_slow = terms->slow_ms && latency_ms >= terms->slow_ms;
    uint64_t word = load_acquire(breaker), sums[3] = {0};

    if (round) {
        for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
            if (breaker_state(word) != BREAKER_HALF_OPEN || word >> 24 != round)
                return 0;
            uint64_t passed = word >> 16 & BREAKER_COUNT_MAX, trips = word >> 2 & BREAKER_TRIPS_MAX, next;
            int change = 0;
            if (is_failure || is_slow) {
                next = breaker_tripped(now, trips + 1, terms);
                change = CHANGE_OPENED;
            } else if (passed + 1 >= terms->probes) {
                next = breaker_join(BREAKER_CLOSED, now, 0, 0, 0);
                change = CHANGE_CLOSED;
                window_clear(place);
            } else {
                next = breaker_join(BREAKER_HALF_OPEN, word >> 24, trips, word >> 8 & BREAKER_COUNT_MAX,
                                    place_least_of(passed + 1, BREAKER_COUNT_MAX));
            }
            if (compare_exchange_acq_rel(breaker, &word, next))
                return change;
        }
        return 0;
    }
    uint64_t in_a_row = count_in_a_row(place, is_failure);
    if (!breaker_looks(terms) || breaker_state(word) != BREAKER_CLOSED)
        return 0;
    if (terms->error_share || terms->slow_ms)
        window_count(place, now, terms->window_ms, is_failure, is_slow, sums);
    bool is_enough = sums[0] >= (terms->calls_min ? terms->calls_min : 1);
    if ((terms->failures && in_a_row >= terms->failures)
        || (is_enough && terms->error_share && sums[1] * 1000 >= terms->error_share * sums[0])
        || (is_enough && terms->slow_ms && sums[2] * 1000 >= terms->slow_share * sums[0]))
        /* Once only: a word that has changed meanwhile says that somebody knew better. */
        return compare_exchange_acq_rel(breaker, &word, breaker_tripped(now, 1, terms)) ? CHANGE_OPENED : 0;
    return 0;
}

/* Quantities that change with time: a stamp above, the quantity below. */

static inline uint64_t stamped(uint64_t now, uint64_t quantity)
{
    return (now & STAMP_MAX) << STAMP_BITS | place_least_of(quantity, QUANTITY_MAX);
}

/* Halved with each half life; between two of them on a straight line. */
static inline uint64_t decayed(uint64_t quantity, uint64_t passed_ms, uint64_t half_life_ms)
{
    uint64_t halvings = half_life_ms ? passed_ms / half_life_ms : 64;
    if (halvings >= STAMP_BITS)
        return 0;
    quantity >>= halvings;
    return quantity - quantity * (passed_ms % half_life_ms) / (2 * half_life_ms);
}

static inline uint64_t passed_since(uint64_t word, uint64_t now)
{
    uint64_t passed = (now - (word >> STAMP_BITS)) & STAMP_MAX;
    return passed > STAMP_MAX / 2 ? 0 : passed; /* another process's clock reading was later */
}

/* The stamp never goes back: who read the clock and was stopped before his turn came would have others count a time
 * again that was counted already. */
static inline uint64_t restamped(uint64_t word, uint64_t now, uint64_t quantity)
{
    uint64_t passed = (now - (word >> STAMP_BITS)) & STAMP_MAX;
    return stamped(word && passed > STAMP_MAX / 2 ? word >> STAMP_BITS : now, quantity);
}

static inline void ewma_observe(word_t *place, uint64_t now, uint64_t latency_us, uint64_t half_life_ms)
{
    word_t *word = place + PLACE_EWMA;
    uint64_t seen = load_acquire(word), sample = place_least_of(latency_us ? latency_us : 1, QUANTITY_MAX);
    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        uint64_t old = seen & QUANTITY_MAX, next = sample;
        if (old > sample)
            next = sample + decayed(old - sample, passed_since(seen, now), half_life_ms);
        if (compare_exchange_acq_rel(word, &seen, restamped(seen, now, next)))
            return;
    }
}

static inline void budget_earn(word_t *place, uint64_t now, uint64_t earned)
{
    word_t *word = place + PLACE_BUDGET;
    uint64_t seen = load_acquire(word);
    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        /* The stamp says up to when time has been paid for; one that was never used has saved up a pause. */
        uint64_t next = seen ? (seen & ~QUANTITY_MAX) | place_least_of((seen & QUANTITY_MAX) + earned, BUDGET_MAX)
                             : stamped(now > BUDGET_PAID_MS ? now - BUDGET_PAID_MS : 0, earned);
        if (next == seen || compare_exchange_acq_rel(word, &seen, next))
            return;
    }
}

static inline bool budget_spend(word_t *place, uint64_t now, uint64_t per_second)
{
    word_t *word = place + PLACE_BUDGET;
    uint64_t seen = load_acquire(word);
    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        uint64_t passed = seen ? passed_since(seen, now) : BUDGET_PAID_MS;
        uint64_t paid = place_least_of(passed, BUDGET_PAID_MS) * per_second;
        uint64_t has = place_least_of((seen & QUANTITY_MAX) + paid, BUDGET_MAX);
        if (has < 1000)
            return false;
        if (compare_exchange_acq_rel(word, &seen, restamped(seen, now, has - 1000)))
            return true;
    }
    return false;
}

/* Attempts */

static inline void flight_change(const struct region *region, uint64_t slot, uint64_t place, uint64_t by)
{
    word_t *word = flight_of(region, slot, place);
    uint64_t now = load_relaxed(word) + by;
    store_relaxed(word, now >> 63 ? 0 : now);
}

/* One more in flight, unless there are `most` already: counted first and looked at afterwards, so that nobody who
 * does the same meanwhile is overlooked. */
static inline bool flight_begin(const struct region *region, uint64_t slot, uint64_t place, uint64_t most)
{
    word_t *word = flight_of(region, slot, place);
    uint64_t mine = load_relaxed(word) + 1;
    if (!most) {
        store_relaxed(word, mine);
        return true;
    }
    atomic_store_explicit(word, mine, memory_order_seq_cst);
    uint64_t used = slots_in_use(region), sum = 0;
    for (uint64_t at = 0; at < used; at++)
        sum += atomic_load_explicit(flight_of(region, at, place), memory_order_seq_cst);
    if (sum <= most)
        return true;
    store_relaxed(word, mine - 1);
    return false;
}

/* 0 and a permit, or a place_refusal; all of it, or nothing. */
static inline int places_begin(const struct region *region, uint64_t slot, uint64_t endpoint, uint64_t upstream,
                               uint64_t now, const struct place_terms *terms, struct permit *permit)
{
    word_t *one = place_of(region, endpoint), *all = place_of(region, upstream);
    int refusal = 0;

    permit->endpoint = permit->upstream = 0;
    if (breaker_looks(&terms->endpoint) && breaker_ask(one + PLACE_BREAKER, now, &terms->endpoint, &permit->endpoint))
        refusal = REFUSED_ENDPOINT_BREAKER;
    else if (breaker_looks(&terms->upstream)
             && breaker_ask(all + PLACE_BREAKER, now, &terms->upstream, &permit->upstream))
        refusal = REFUSED_UPSTREAM_BREAKER;
    else if (!flight_begin(region, slot, endpoint, terms->endpoint_max))
        refusal = REFUSED_ENDPOINT_FULL;
    else if (!flight_begin(region, slot, upstream, terms->upstream_max)) {
        flight_change(region, slot, endpoint, UINT64_MAX);
        refusal = REFUSED_UPSTREAM_FULL;
    }
    if (refusal) {
        if (permit->endpoint)
            breaker_give_back(one + PLACE_BREAKER, permit->endpoint);
        if (permit->upstream)
            breaker_give_back(all + PLACE_BREAKER, permit->upstream);
        bump_relaxed(toll_of(region, slot, refusal & 1 ? endpoint : upstream) + TOLL_REFUSED, 1);
        return refusal;
    }
    if (terms->earned)
        budget_earn(all, now, terms->earned);
    return 0;
}

/* What it changed: place_change of the endpoint, and of the upstream two bits higher. */
static inline int places_finish(const struct region *region, uint64_t slot, uint64_t endpoint, uint64_t upstream,
                                uint64_t now, struct permit permit, uint64_t outcome, uint64_t latency_us,
                                const struct place_terms *terms)
{
    word_t *one = place_of(region, endpoint), *all = place_of(region, upstream);
    word_t *toll = toll_of(region, slot, endpoint), *sum = toll_of(region, slot, upstream);
    bool is_failure = outcome == OUTCOME_FAILURE;

    flight_change(region, slot, endpoint, UINT64_MAX);
    flight_change(region, slot, upstream, UINT64_MAX);
    if (outcome == OUTCOME_NEUTRAL) {
        if (permit.endpoint)
            breaker_give_back(one + PLACE_BREAKER, permit.endpoint);
        if (permit.upstream)
            breaker_give_back(all + PLACE_BREAKER, permit.upstream);
        return 0;
    }
    bump_relaxed(toll + TOLL_REQUESTS, 1);
    bump_relaxed(sum + TOLL_REQUESTS, 1);
    bump_relaxed(toll + TOLL_LATENCY_SUM_US, latency_us);
    bump_relaxed(sum + TOLL_LATENCY_SUM_US, latency_us);
    if (is_failure) {
        bump_relaxed(toll + TOLL_FAILURES, 1);
        bump_relaxed(sum + TOLL_FAILURES, 1);
    }
    if (terms->half_life_ms)
        ewma_observe(one, now, latency_us, terms->half_life_ms);
    int changed = breaker_told(one, now, &terms->endpoint, permit.endpoint, is_failure, latency_us / 1000);
    int changed_all = breaker_told(all, now, &terms->upstream, permit.upstream, is_failure, latency_us / 1000);
    if (changed & CHANGE_OPENED)
        bump_relaxed(toll + TOLL_OPENED, 1);
    if (changed_all & CHANGE_OPENED)
        bump_relaxed(sum + TOLL_OPENED, 1);
    return changed | changed_all << 2;
}

static inline unsigned char place_standing(const struct region *region, uint64_t index, uint64_t now, uint64_t probes)
{
    const word_t *place = place_of(region, index);
    uint64_t admin = load_relaxed(place + PLACE_ADMIN), until = load_relaxed(place + PLACE_EJECTED_UNTIL_MS);
    if (admin)
        return admin == 1 ? STANDING_DRAIN : STANDING_MAINTENANCE;
    if (load_relaxed(place + PLACE_HEALTH) == 2)
        return STANDING_UNHEALTHY;
    if (until > now)
        return STANDING_EJECTED;
    if (probes && breaker_would_refuse(load_relaxed(place + PLACE_BREAKER), now, probes))
        return STANDING_OPEN;
    return STANDING_USABLE;
}

/* The position of the least (in flight + 1) / weight among those allowed, from `start` on round; -1 when none is. */
static inline int64_t places_least(const struct region *region, const uint32_t *places, const uint32_t *weights,
                                   const unsigned char *allowed, uint64_t count, uint64_t start)
{
    uint64_t used = slots_in_use(region), least = 0, its_weight = 1;
    int64_t best = -1;
    for (uint64_t step = 0; step < count; step++) {
        uint64_t at = start + step < count ? start + step : start + step - count;
        if (!allowed[at])
            continue;
        uint64_t load = flights_of(region, places[at], used) + 1, weight = weights[at] ? weights[at] : 1;
        if (best < 0 || load * its_weight < least * weight) {
            best = (int64_t)at;
            least = load;
            its_weight = weight;
        }
    }
    return best;
}

/* Tokens under way: one's own word, which no other process writes. `more` and `less` are at most BURDEN_MAX. */
static inline void burden_change(const struct region *region, uint64_t slot, uint64_t place, uint64_t more,
                                 uint64_t less)
{
    word_t *word = burden_of(region, slot, place);
    uint64_t now = place_least_of(load_relaxed(word), BURDEN_MAX) + more;
    store_relaxed(word, now > less ? now - less : 0);
}

/* The position of the least (tokens under way + tokens) / weight among those allowed, as places_least. */
static inline int64_t places_lightest(const struct region *region, const uint32_t *places, const uint32_t *weights,
                                      const unsigned char *allowed, uint64_t count, uint64_t start, uint64_t tokens)
{
    uint64_t used = slots_in_use(region), least = 0, its_weight = 1;
    int64_t best = -1;
    for (uint64_t step = 0; step < count; step++) {
        uint64_t at = start + step < count ? start + step : start + step - count;
        if (!allowed[at])
            continue;
        uint64_t load = place_least_of(burdens_of(region, places[at], used) + tokens, BURDEN_MAX);
        uint64_t weight = weights[at] ? weights[at] : 1;
        if (best < 0 || load * its_weight < least * weight) {
            best = (int64_t)at;
            least = load;
            its_weight = weight;
        }
    }
    return best;
}

/* Leadership */

static inline bool places_lead(const struct region *region, uint64_t slot, uint64_t generation, uint64_t now,
                               uint64_t lease_ms)
{
    word_t *word = region->words + HEADER_LEADER;
    uint64_t seen = load_acquire(word);
    uint64_t mine = (now + lease_ms) << LEADER_EXPIRY_BITS | (generation & LEADER_GENERATION_MASK) << LEADER_SLOT_BITS
                    | (slot + 1);
    for (int attempt = 0; attempt < PLACE_ATTEMPTS_MAX; attempt++) {
        uint64_t holder = seen & LEADER_SLOT_MASK, age = seen >> LEADER_SLOT_BITS & LEADER_GENERATION_MASK;
        uint64_t newer = (generation - age) & LEADER_GENERATION_MASK;
        bool is_mine = holder == slot + 1, is_over = now >= seen >> LEADER_EXPIRY_BITS;
        bool is_newer = newer && newer <= LEADER_GENERATION_MASK / 2;
        if (holder && !is_mine && !is_over && !is_newer)
            return false;
        if (compare_exchange_acq_rel(word, &seen, mine))
            return true;
    }
    return false;
}

/* What a dead process had begun is over: nothing of its slot is in flight, and it leads no more. */
static inline void places_reap(const struct region *region, uint64_t slot)
{
    word_t *word = region->words + HEADER_LEADER;
    uint64_t seen = load_acquire(word), count = load_acquire(region->words + HEADER_PLACES_COUNT);
    for (uint64_t place = 0; place < place_least_of(count, region->places_max); place++) {
        store_relaxed(flight_of(region, slot, place), 0);
        store_relaxed(burden_of(region, slot, place), 0);
    }
    if ((seen & LEADER_SLOT_MASK) == slot + 1)
        (void)compare_exchange_acq_rel(word, &seen, 0);
}

#endif
