/* Budgets under real threads, for a race detector, and for the plain eye.
 *
 * Threads stand for workers, each with a slot; windows pass, since their clock is a word that they raise themselves, so
 * that entries are claimed while others ask for them, and the table is smaller than the number of keys. Of one key in a
 * window that lasts all of them want something: who is let in counts what he took along, and nobody may ever see
 * more outside than the limit. One thread dies again and again, between its own word and the swap, and between the
 * two halves of settling, and is reaped. Exit status 0: the limit held, what was settled is there, nothing is open.
 */
#define _POSIX_C_SOURCE 200112L /* barriers */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "budgets.h"

enum { WORKERS = 4, SLOTS = 8, TURNS = 20000, KEYS = 96, BUDGETS = LIMITS_MIN, GUARDS = LIMIT_GUARDS_MIN };
enum { SLOTS_AT = HEADER_WORDS, BUDGETS_AT = SLOTS_AT + SLOTS * SLOT_WORDS,
       GUARDS_AT = BUDGETS_AT + BUDGETS * LIMIT_WORDS, TITLES_AT = GUARDS_AT + GUARDS,
       ROWS_AT = TITLES_AT + BUDGETS * TITLE_WORDS, WORDS = ROWS_AT + BUDGETS * SLOTS * SPENDING_WORDS };

#define FOREVER (LIMIT_TIME_MAX_NS - 1)
#define LIMIT_OF_ALL UINT64_C(1000000000)
#define OUTSIDE_MAX 10

static _Alignas(64) word_t memory[WORDS];
static const struct region region = {
    .words = memory, .words_count = WORDS, .slots_max = SLOTS, .slots = SLOTS_AT, .limits = BUDGETS_AT,
    .limits_mask = BUDGETS - 1, .guards = GUARDS_AT, .guards_mask = GUARDS - 1, .stripe = BUDGETS / GUARDS,
    .holdings = ROWS_AT, .holdings_stride = BUDGETS * SPENDING_WORDS, .holding_words = SPENDING_WORDS,
    .titles = TITLES_AT,
};
static word_t clock_ns, outside, settled;
static pthread_barrier_t start;

static void fail(const char *what)
{
    fprintf(stderr, "broken: %s\n", what);
    exit(1);
}

static struct budget_key key_of(const uint64_t *number)
{
    const unsigned char *text = (const unsigned char *)number;
    return (struct budget_key){siphash_128(1, 2, text, sizeof *number), text, sizeof *number};
}

static enum outcome reserve(uint64_t slot, uint64_t now, uint64_t number, struct budget_term term, uint64_t *lease)
{
    struct budget_key key = key_of(&number);
    uint64_t used;
    int index;
    return budgets_reserve(&region, slot, now, 1, &key, &term, &used, lease, &index);
}

static void *worker(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument, dice = slot + 1, lease, mine = 0;
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        uint64_t now = load_acquire(&clock_ns), window = now / (8 * LIMIT_GRACE_NS);
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t number = window << 8 | (1 + (dice >> 33) % KEYS);
        struct budget_term small = {(window + 1) * 8 * LIMIT_GRACE_NS, 2, 5, LIMIT_CLOSED};
        if (reserve(slot, now, number, small, &lease) == ADMITTED
            && (!budgets_settle(&region, slot, lease, 1, 1, false) || !budgets_settle(&region, slot, lease, 0, 1, true)))
            fail("what is open was given away");
        /* What may be outside at once is the limit less what was settled: so it is a limit that grows. */
        struct budget_term all = {FOREVER, 5, LIMIT_OF_ALL, LIMIT_CLOSED};
        if (reserve(slot, now, 0, all, &lease) == ADMITTED) {
            if (budgets_extend(&region, slot, lease, 1, LIMIT_OF_ALL, &number) != ADMITTED)
                fail("there was room for more");
            budgets_settle(&region, slot, lease, 3, 3, false);
            budgets_settle(&region, slot, lease, UINT64_MAX, 3, true);
            mine += 2;
        }
        struct budget_term turnstile = {FOREVER, 5, OUTSIDE_MAX, LIMIT_CLOSED};
        if (reserve(slot, now, 1, turnstile, &lease) == ADMITTED) {
            if (fetch_add_acq_rel(&outside, 5) > OUTSIDE_MAX - 5)
                fail("more is outside than the limit");
            fetch_add_acq_rel(&outside, UINT64_C(0) - 5);
            budgets_settle(&region, slot, lease, 0, 5, true);
        }
        if (turn % 16 == 0)
            fetch_add_acq_rel(&clock_ns, LIMIT_GRACE_NS / 8);
    }
    fetch_add_acq_rel(&settled, mine);
    return NULL;
}

/* Dies while something is open, between its own word and the swap, and when half of it is settled. */
static void *mortal(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument, lease, zero = 0, mine = 0;
    struct budget_key key = key_of(&zero);
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS / 10; turn++) {
        struct budget_term all = {FOREVER, 7, LIMIT_OF_ALL, LIMIT_CLOSED};
        if (reserve(slot, load_acquire(&clock_ns), 0, all, &lease) == ADMITTED && turn % 2) {
            word_t *row = budgets_row(&region, lease & BUDGET_INDEX_MASK, slot);
            store_release(row + SPENDING_SETTLED, load_relaxed(row + SPENDING_SETTLED) + 4);
            mine += 4;
        }
        struct found found = limits_find(&region, key.hash);
        if (found.entry)
            leases_add(leases_holding(&region, found.entry, slot), 1);
        leases_reap(&region, slot);
    }
    fetch_add_acq_rel(&settled, mine);
    return NULL;
}

int main(void)
{
    pthread_t threads[WORKERS + 1];
    uint64_t counts[4], zero = 0;

    store_release(&clock_ns, 10 * LIMIT_GRACE_NS);
    store_release(memory + HEADER_SLOTS_USED, SLOTS);
    pthread_barrier_init(&start, NULL, WORKERS + 1);
    for (uintptr_t slot = 0; slot <= WORKERS; slot++)
        if (pthread_create(&threads[slot], NULL, slot < WORKERS ? worker : mortal, (void *)slot))
            fail("no thread");
    for (int slot = 0; slot <= WORKERS; slot++)
        pthread_join(threads[slot], NULL);
    leases_statistics(&region, counts);
    if (counts[1] || counts[2] || counts[3])
        fail("something is open or busy at the end");
    if (budgets_spent(&region, key_of(&zero).hash).settled != load_acquire(&settled))
        fail("what was settled is not there");
    printf("settled %llu, %llu entries used\n", (unsigned long long)load_acquire(&settled),
           (unsigned long long)counts[0]);
    return 0;
}
