/* Places under real threads, for a race detector, and for the plain eye.
 *
 * Threads stand for workers that begin and finish attempts at two endpoints of one upstream, some of which fail, so
 * that breakers open, are probed and close; all ask for the lead. A third endpoint is half-open for good, and has one
 * probe that all of them want. Exit status 0: no ceiling was passed, no two had that probe at a time, nobody led
 * beside another, a budget was not overspent, and at the end nothing is in flight.
 */
#define _POSIX_C_SOURCE 200112L /* barriers */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "places.h"

enum { WORKERS = 4, TURNS = 20000, PLACES = 4, UPSTREAM = 2, GUARDED = 3, CEILING = 2, PROBES = 8, EARNED = 200 };
enum { SLOTS_AT = HEADER_WORDS, PLACES_AT = SLOTS_AT + WORKERS * SLOT_WORDS,
       FLIGHTS_AT = PLACES_AT + PLACES * PLACE_WORDS, STRIDE = 8, TOLLS_AT = FLIGHTS_AT + WORKERS * STRIDE,
       WORDS = TOLLS_AT + WORKERS * PLACES * TOLL_WORDS };

static _Alignas(64) word_t memory[WORDS];
static const struct region region = {
    .words = memory, .words_count = WORDS, .slots_max = WORKERS, .slots = SLOTS_AT, .places_max = PLACES,
    .places = PLACES_AT, .flights = FLIGHTS_AT, .flights_stride = STRIDE, .tolls = TOLLS_AT,
    .tolls_stride = PLACES * TOLL_WORDS,
};
static const struct place_terms terms = {
    .endpoint = {.failures = 3, .window_ms = 1000, .open_ms = 5, .open_max_ms = 20, .probes = 1, .probe_ms = 5},
    .endpoint_max = CEILING, .half_life_ms = 10, .earned = EARNED,
};
static const struct place_terms guarded = {.endpoint = {.failures = 3, .probes = 1, .open_ms = 5, .probe_ms = 5}};
static word_t clock_ms, inside[2], probing, probes, leaders, spent, begun, refused[5];
static pthread_barrier_t start;

static void fail(const char *what)
{
    fprintf(stderr, "broken: %s\n", what);
    exit(1);
}

static void *worker(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument, dice = slot + 1;
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        uint64_t now = load_acquire(&clock_ms);
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t endpoint = dice >> 63;
        struct permit permit = {0, 0};
        int refusal = places_begin(&region, slot, endpoint, UPSTREAM, now, &terms, &permit);
        if (refusal == 0) {
            if (fetch_add_acq_rel(&inside[endpoint], 1) >= CEILING)
                fail("more are in flight than the ceiling");
            fetch_add_acq_rel(&begun, 1);
            fetch_add_acq_rel(&inside[endpoint], UINT64_MAX);
            enum place_outcome outcome = dice >> 40 & 3 ? OUTCOME_SUCCESS : OUTCOME_FAILURE;
            places_finish(&region, slot, endpoint, UPSTREAM, now, permit, dice >> 50 & 15 ? outcome : OUTCOME_NEUTRAL,
                          turn, &terms);
        } else {
            fetch_add_acq_rel(&refused[refusal], 1);
        }
        for (int again = 0; again < PROBES; again++) {
            if (places_begin(&region, slot, GUARDED, UPSTREAM, now, &guarded, &permit) != 0)
                continue;
            if (fetch_add_acq_rel(&probing, 1) != 0)
                fail("two have the one probe");
            fetch_add_acq_rel(&probes, 1);
            fetch_add_acq_rel(&probing, UINT64_MAX);
            places_finish(&region, slot, GUARDED, UPSTREAM, now, permit, OUTCOME_NEUTRAL, turn, &guarded);
        }
        if (budget_spend(place_of(&region, UPSTREAM), now, 0))
            fetch_add_acq_rel(&spent, 1);
        /* The leases never end here: whoever led first leads to the end. */
        if (turn == TURNS / 2 && places_lead(&region, slot, 1, now, UINT64_C(1) << 30))
            fetch_add_acq_rel(&leaders, 1);
        if (turn % 16 == 0)
            fetch_add_acq_rel(&clock_ms, 1);
        place_standing(&region, endpoint, now, 1);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[WORKERS];
    uint64_t opened = 0;
    store_release(&clock_ms, 1000);
    store_release(memory + HEADER_SLOTS_USED, WORKERS);
    store_release(memory + HEADER_PLACES_COUNT, PLACES);
    store_release(place_of(&region, GUARDED) + PLACE_BREAKER,
                  breaker_join(BREAKER_HALF_OPEN, BREAKER_UNTIL_MAX, 1, 0, 0));
    pthread_barrier_init(&start, NULL, WORKERS);
    for (uintptr_t slot = 0; slot < WORKERS; slot++)
        pthread_create(&threads[slot], NULL, worker, (void *)slot);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t place = 0; place < PLACES; place++)
        if (flights_of(&region, place, WORKERS))
            fail("something is still in flight");
    if (load_relaxed(&leaders) != 1)
        fail("not exactly one leads");
    if (load_relaxed(&spent) * 1000 > load_relaxed(&begun) * EARNED)
        fail("more was spent than earned");
    for (uint64_t slot = 0; slot < WORKERS; slot++)
        opened += load_relaxed(toll_of(&region, slot, 0) + TOLL_OPENED);
    if (load_relaxed(&probes) < TURNS)
        fail("the probe was not given back");
    if (opened == 0 || load_relaxed(&refused[REFUSED_ENDPOINT_BREAKER]) == 0)
        fail("no breaker ever opened");
    return 0;
}
