/* The kernel under real threads, for a race detector, and for the plain eye: writers, readers, publishers.
 *
 * Threads stand for processes: what they share is the region, and each word has the writer that it has
 * in the fleet. A reader takes only what it can prove: a record whose checksum holds and whose number is
 * the one asked for, sums that do not go down, a generation that does not go back. Exit status 0: all held.
 */
#define _POSIX_C_SOURCE 200112L /* barriers */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel.h"

enum { SLOTS = 2, SERIES = 2, RECORDS = 4, TURNS = 20000, READERS = 2, PUBLISHERS = 2 };
enum { SLOTS_AT = HEADER_WORDS, RINGS_AT = SLOTS_AT + SLOTS * SLOT_WORDS,
       COUNTERS_AT = RINGS_AT + SLOTS * RECORDS * CELL_WORDS,
       WORDS = COUNTERS_AT + SLOTS * SERIES * SERIES_WORDS };

static _Alignas(64) word_t memory[WORDS];
static const struct region region = {
    .words = memory, .words_count = WORDS, .slots_max = SLOTS, .series_max = SERIES, .journal_records = RECORDS,
    .slots = SLOTS_AT, .rings = RINGS_AT, .ring_stride = RECORDS * CELL_WORDS, .counters = COUNTERS_AT,
    .counters_stride = SERIES * SERIES_WORDS,
};

static pthread_barrier_t start;

static void fail(const char *what)
{
    fprintf(stderr, "broken: %s\n", what);
    exit(1);
}

/* The record of a number: its length and every octet follow from the number. */
static uint64_t record_of(uint64_t slot, uint64_t sequence, unsigned char *record)
{
    uint64_t length = 8 + (sequence * 37 + slot) % (JOURNAL_RECORD_BYTES - 8);
    for (uint64_t i = 0; i < length; i++)
        record[i] = (unsigned char)(sequence * 31 + slot * 7 + i);
    return length;
}

static void *writer(void *argument)
{
    uint64_t slot = (uint64_t)(uintptr_t)argument;
    unsigned char record[JOURNAL_RECORD_BYTES];
    pthread_barrier_wait(&start);
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        kernel_journal_write(&region, slot, record, record_of(slot, turn, record));
        kernel_record(&region, slot, turn % SERIES, 200 + turn % 400, turn % REASONS_MAX, turn * 1000, 1, 2);
        kernel_beat(&region, slot, turn, 1, 1);
    }
    return NULL;
}

static void *publisher(void *argument)
{
    uint64_t raised = 0;
    (void)argument;
    pthread_barrier_wait(&start);
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        raised += kernel_publish(memory + HEADER_GENERATION, turn);
        fetch_add_acq_rel(memory + HEADER_SLOTS_FREED, 1);
    }
    return (void *)(uintptr_t)raised;
}

static void read_journal(uint64_t slot)
{
    unsigned char record[JOURNAL_RECORD_BYTES], expected[JOURNAL_RECORD_BYTES];
    uint64_t head = load_acquire(slot_of(&region, slot) + SLOT_JOURNAL_HEAD);
    for (uint64_t sequence = head > RECORDS ? head - RECORDS : 0; sequence <= head; sequence++) {
        int length = kernel_journal_read(&region, slot, sequence, record);
        if (length < 0)
            continue;
        if ((uint64_t)length != record_of(slot, sequence, expected) || memcmp(record, expected, (size_t)length) != 0)
            fail("a torn record was read");
    }
}

static void *reader(void *argument)
{
    uint64_t before[SERIES_WORDS] = {0}, now[SERIES_WORDS], generation_before = 0;
    (void)argument;
    pthread_barrier_wait(&start);
    for (int turn = 0; turn < TURNS / 4; turn++) {
        for (uint64_t slot = 0; slot < SLOTS; slot++)
            read_journal(slot);
        kernel_sums(memory + COUNTERS_AT, region.counters_stride, SLOTS, SERIES_WORDS, now);
        for (int i = 0; i < SERIES_WORDS; i++) {
            if (now[i] < before[i])
                fail("a sum went down");
            before[i] = now[i];
        }
        uint64_t generation = load_acquire(memory + HEADER_GENERATION);
        if (generation < generation_before)
            fail("a generation went back");
        generation_before = generation;
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[SLOTS + READERS + PUBLISHERS];
    uint64_t raised = 0;
    int count = 0;
    /* Together, or the first would be done before the last begins. */
    pthread_barrier_init(&start, NULL, SLOTS + READERS + PUBLISHERS);
    for (uintptr_t slot = 0; slot < SLOTS; slot++)
        pthread_create(&threads[count++], NULL, writer, (void *)slot);
    for (int i = 0; i < READERS; i++)
        pthread_create(&threads[count++], NULL, reader, NULL);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_create(&threads[count++], NULL, publisher, NULL);
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        raised += (uint64_t)(uintptr_t)result;
    }
    uint64_t total[SERIES_WORDS], requests = 0;
    for (int series = 0; series < SERIES; series++) {
        kernel_sums(memory + COUNTERS_AT + series * SERIES_WORDS, region.counters_stride, SLOTS, SERIES_WORDS, total);
        for (int kind = 0; kind < CLASSES; kind++)
            requests += total[SERIES_CLASSES + kind];
    }
    if (requests != (uint64_t)SLOTS * TURNS)
        fail("an exchange was not counted");
    if (load_acquire(memory + HEADER_GENERATION) != TURNS || raised != TURNS)
        fail("a generation was published twice, or not");
    if (load_acquire(memory + HEADER_SLOTS_FREED) != (uint64_t)PUBLISHERS * TURNS)
        fail("an add was lost");
    return 0;
}
