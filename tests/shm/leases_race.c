/* Leases under real threads, for a race detector, and for the plain eye.
 *
 * Threads stand for workers, each with a slot; their clock is a word that they raise themselves, so that entries are
 * claimed while others ask for them, and the table is smaller than the number of keys. A key that all of them want is
 * a turnstile: who is let in counts himself in, and nobody may ever see more inside than the ceiling. One thread dies
 * again and again while it holds, and is reaped. Exit status 0: the ceiling held, and at the end nothing is held.
 */
#define _POSIX_C_SOURCE 200112L /* barriers */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "leases.h"

enum { WORKERS = 4, SLOTS = 8, TURNS = 20000, KEYS = 96, LEASES = LIMITS_MIN, GUARDS = LIMIT_GUARDS_MIN, CEILING = 2 };
enum { SLOTS_AT = HEADER_WORDS, LEASES_AT = SLOTS_AT + SLOTS * SLOT_WORDS, GUARDS_AT = LEASES_AT + LEASES * LIMIT_WORDS,
       HOLDINGS_AT = GUARDS_AT + GUARDS, WORDS = HOLDINGS_AT + LEASES * SLOTS };

static _Alignas(64) word_t memory[WORDS];
static const struct region region = {
    .words = memory, .words_count = WORDS, .slots_max = SLOTS, .slots = SLOTS_AT, .limits = LEASES_AT,
    .limits_mask = LEASES - 1, .guards = GUARDS_AT, .guards_mask = GUARDS - 1, .stripe = LEASES / GUARDS,
    .holdings = HOLDINGS_AT, .holdings_stride = LEASES, .holding_words = 1,
};
static word_t clock_ns, inside;
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

static void *worker(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument, dice = slot + 1, mine[4], count = 0, entered = 0, held, index;
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        uint64_t now = load_acquire(&clock_ns);
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
        if (count < 4 && leases_hold(&region, slot, now, key_of(1 + (dice >> 33) % KEYS), 2, &held, &index) == ADMITTED)
            mine[count++] = index;
        if (count == 4 || dice >> 63)
            while (count)
                leases_release(&region, slot, mine[--count]);
        if (leases_hold(&region, slot, now, key_of(0), CEILING, &held, &index) == ADMITTED) {
            if (fetch_add_acq_rel(&inside, 1) >= CEILING)
                fail("more are inside than the ceiling");
            entered++;
            fetch_add_acq_rel(&inside, UINT64_MAX);
            leases_release(&region, slot, index);
        }
        if (turn % 16 == 0)
            fetch_add_acq_rel(&clock_ns, LIMIT_GRACE_NS / 8);
    }
    while (count)
        leases_release(&region, slot, mine[--count]);
    return (void *)(uintptr_t)entered;
}

/* Dies while it holds, and between its own word and the swap. */
static void *mortal(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument, held, index;
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS / 10; turn++) {
        uint64_t now = load_acquire(&clock_ns);
        leases_hold(&region, slot, now, key_of(1 + turn % KEYS), 2, &held, &index);
        struct found found = limits_find(&region, key_of(0));
        if (found.entry && turn % 2)
            leases_add(leases_holding(&region, found.entry, slot), 1);
        leases_reap(&region, slot);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[WORKERS + 1];
    uint64_t counts[4], entered = 0;
    store_release(&clock_ns, LIMIT_GRACE_NS * 10);
    store_release(memory + HEADER_SLOTS_USED, SLOTS);
    pthread_barrier_init(&start, NULL, WORKERS + 1);
    for (uintptr_t slot = 0; slot <= WORKERS; slot++)
        pthread_create(&threads[slot], NULL, slot < WORKERS ? worker : mortal, (void *)slot);
    for (int i = 0; i <= WORKERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        entered += (uint64_t)(uintptr_t)result;
    }
    if (entered == 0)
        fail("nobody ever came in");
    leases_statistics(&region, counts);
    if (counts[1] || counts[2])
        fail("something is still held");
    if (counts[3])
        fail("an entry is busy");
    for (int i = 0; i < GUARDS; i++)
        if (load_relaxed(memory + GUARDS_AT + i))
            fail("a guard is held");
    return 0;
}
