/* The table of limits under real threads, for a race detector, and for the plain eye.
 *
 * Threads stand for workers, each with a slot. Their clock is a word that they raise themselves, a grace at a
 * time, so that buckets expire while others charge them, and the table is smaller than the number of keys. One
 * of them is the reaper of slots whose owners stop in the middle: they take a guard, or an entry too, and leave.
 * Exit status 0: no key twice, nothing held, no more admitted than the burst of a key that never refills.
 */
#define _POSIX_C_SOURCE 200112L /* barriers */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "limits.h"

enum { WORKERS = 4, SLOTS = WORKERS + 1, TURNS = 20000, KEYS = 96, LIMITS = LIMITS_MIN, GUARDS = LIMIT_GUARDS_MIN,
       BURST = 3 };
enum { SLOTS_AT = HEADER_WORDS, LIMITS_AT = SLOTS_AT + SLOTS * SLOT_WORDS + SLOT_WORDS % 8,
       GUARDS_AT = LIMITS_AT + LIMITS * LIMIT_WORDS, WORDS = GUARDS_AT + GUARDS };

static _Alignas(64) word_t memory[WORDS];
static const struct region region = {
    .words = memory, .words_count = WORDS, .slots_max = SLOTS, .slots = SLOTS_AT, .limits = LIMITS_AT,
    .limits_mask = LIMITS - 1, .guards = GUARDS_AT, .guards_mask = GUARDS - 1, .stripe = LIMITS / GUARDS,
};
static word_t clock_ns;
static pthread_barrier_t start;

static void fail(const char *what)
{
    fprintf(stderr, "broken: %s\n", what);
    exit(1);
}

static struct hash key_of(uint64_t number)
{
    return siphash_128(1, 2, (const unsigned char *)&number, sizeof number);
}

static uint64_t charge(uint64_t slot, uint64_t now, uint64_t number, uint64_t increment, uint64_t capacity)
{
    struct hash key = key_of(number);
    struct term term = {increment, capacity, LIMIT_CLOSED};
    uint64_t tat;
    int index;
    return limits_charge(&region, slot, now, 1, &key, &term, &tat, &index, NULL) == ADMITTED;
}

static void *worker(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument, admitted = 0, dice = slot + 1;
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        uint64_t now = load_acquire(&clock_ns);
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
        charge(slot, now, 1 + (dice >> 33) % KEYS, 1000, 3000);
        admitted += charge(slot, now, 0, LIMIT_TERM_MAX_NS / 8, LIMIT_TERM_MAX_NS / 8 * BURST + 1);
        struct hash keys[2] = {key_of(1 + dice % KEYS), key_of(1 + dice % KEYS)};
        struct term terms[2] = {{1000, 1000, 0}, {1000, 1000, 0}};
        uint64_t tats[2];
        int index;
        limits_charge(&region, slot, now, 2, keys, terms, tats, &index, NULL);
        if (turn % 64 == 0)
            limits_reset(&region, now, key_of(1 + turn % KEYS));
        if (turn % 16 == 0)
            fetch_add_acq_rel(&clock_ns, LIMIT_GRACE_NS / 8);
    }
    return (void *)(uintptr_t)admitted;
}

/* A slot whose owner dies in an insertion, again and again: before he has claimed, before and after he has decided. */
static void *mortal(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument;
    word_t *place = slot_of(&region, slot);
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        uint64_t now = load_acquire(&clock_ns), number = 1 + turn % KEYS, ticket = limits_ticket(place, slot);
        struct hash key = key_of(number);
        uint64_t stripe = (key.low & region.limits_mask) / region.stripe;
        word_t *guard = memory + GUARDS_AT + stripe;
        store_release(place + SLOT_LIMIT_GUARD, stripe);
        if (limits_enter(&region, slot, stripe, ticket, 0) && turn % 3) {
            struct found vacant = limits_vacant(&region, key.low, now);
            if (limits_find(&region, key).entry == NULL && vacant.entry != NULL) {
                store_release(place + SLOT_LIMIT_ENTRY, limits_index(&region, vacant.entry));
                store_release(place + SLOT_LIMIT_BEFORE, now);
                store_release(place + SLOT_LIMIT_AFTER, now + 1000);
                bool is_mine = limits_swap(vacant.entry + LIMIT_TAT, vacant.tat, LIMIT_BUSY | ticket);
                if (is_mine && turn % 3 == 1 && limits_is_past(load_acquire(vacant.entry + LIMIT_PEAK), now)) {
                    uint64_t offset = (limits_index(&region, vacant.entry) - stripe * region.stripe) & (LIMITS - 1);
                    store_release(vacant.entry + LIMIT_KEY_LOW, key.low);
                    store_release(vacant.entry + LIMIT_KEY_HIGH, key.high);
                    limits_swap(guard, ticket, DECIDED | offset << OFFSET_BITS | ticket);
                }
            }
        }
        limits_reap(&region, slot);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[SLOTS];
    uint64_t admitted = 0, counts[4];
    store_release(&clock_ns, LIMIT_GRACE_NS * 10);
    /* Together, or the first would be done before the last begins. */
    pthread_barrier_init(&start, NULL, SLOTS);
    for (uintptr_t slot = 0; slot < SLOTS; slot++)
        pthread_create(&threads[slot], NULL, slot < WORKERS ? worker : mortal, (void *)slot);
    for (int i = 0; i < SLOTS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        admitted += (uint64_t)(uintptr_t)result;
    }
    if (admitted > BURST)
        fail("a key was admitted more often than its burst");
    for (uint64_t a = 0; a < LIMITS; a++)
        for (uint64_t b = 0; b < a; b++) {
            word_t *one = limits_entry(&region, a), *two = limits_entry(&region, b);
            if (!((load_relaxed(one + LIMIT_TAT) | load_relaxed(two + LIMIT_TAT)) & LIMIT_MARKS)
                && load_relaxed(one + LIMIT_TAT) && load_relaxed(two + LIMIT_TAT)
                && load_relaxed(one + LIMIT_KEY_LOW) == load_relaxed(two + LIMIT_KEY_LOW))
                fail("a key has two entries");
        }
    limits_statistics(&region, 0, counts);
    if (counts[3])
        fail("an entry is held");
    for (int i = 0; i < GUARDS; i++)
        if (load_relaxed(memory + GUARDS_AT + i))
            fail("a guard is held");
    return 0;
}
