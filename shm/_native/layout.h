/* Written by `python -m shm.layout --write`; change shm/layout.py instead. */
#ifndef SENTINEL_LAYOUT_H
#define SENTINEL_LAYOUT_H

/* header: places in words */
#define HEADER_WORDS 512
#define HEADER_MAGIC 0
#define HEADER_VERSION 1
#define HEADER_CREATOR_PID 2
#define HEADER_CREATOR_BIRTH_NS 3
#define HEADER_SIZE_BYTES 4
#define HEADER_SLOTS_MAX 5
#define HEADER_SERIES_MAX 6
#define HEADER_JOURNAL_RECORDS 7
#define HEADER_LIMITS_MAX 8
#define HEADER_SECRET_LOW 9
#define HEADER_SECRET_HIGH 10
#define HEADER_LAYOUT_CRC 11
#define HEADER_HEADER_CRC 12
#define HEADER_READY 13
#define HEADER_GENERATION 16
#define HEADER_SLOTS_USED 24
#define HEADER_SLOTS_FREED 25
#define HEADER_SERIES_COUNT 32
#define HEADER_SERIES_REFUSED 33

/* slot: places in words */
#define SLOT_WORDS 184
#define SLOT_LIFE 0
#define SLOT_PID 1
#define SLOT_BIRTH_NS 2
#define SLOT_ROLE 3
#define SLOT_GENERATION 4
#define SLOT_LANE 5
#define SLOT_ORDER 6
#define SLOT_FREED_AT 7
#define SLOT_STATE 8
#define SLOT_HEARTBEAT_NS 9
#define SLOT_OPEN_CONNECTIONS 10
#define SLOT_OPEN_REQUESTS 11
#define SLOT_JOURNAL_HEAD 12
#define SLOT_LIMIT_TICKET 16
#define SLOT_LIMIT_GUARD 17
#define SLOT_LIMIT_ENTRY 18
#define SLOT_LIMIT_BEFORE 19
#define SLOT_LIMIT_AFTER 20
#define SLOT_COUNTERS 24
#define SLOT_LIVES 56

/* name: places in words */
#define NAME_WORDS 32
#define NAME_LENGTH 0
#define NAME_TEXT 1

/* journal record: places in words */
#define CELL_WORDS 64
#define CELL_WORD 0
#define CELL_PAYLOAD 1

/* series: places in words */
#define SERIES_WORDS 160
#define SERIES_CLASSES 0
#define SERIES_DURATION_SUM_NS 6
#define SERIES_BYTES_IN 7
#define SERIES_BYTES_OUT 8
#define SERIES_HISTOGRAM 9
#define SERIES_REASONS 32

/* limit: places in words */
#define LIMIT_WORDS 4
#define LIMIT_KEY_LOW 0
#define LIMIT_KEY_HIGH 1
#define LIMIT_TAT 2
#define LIMIT_PEAK 3

/* numbers */
#define CLASSES 6
#define BUCKETS 17
#define REASONS_MAX 128
#define COUNTERS_MAX 32
#define LIVES 32
#define LIFE_WORDS 4
#define STAGE_BITS 2
#define LENGTH_BITS 16
#define RELAYED_REASON 0
#define JOURNAL_RECORD_BYTES 504
#define SLOTS_LIMIT 1024
#define SERIES_LIMIT 65536
#define JOURNAL_LIMIT 1048576
#define LIMITS_LIMIT 16777216
#define LIMITS_MIN 64
#define LIMIT_WINDOW 32
#define LIMIT_STRIPE 64
#define LIMIT_GUARDS_MIN 64
#define LIMIT_KEYS_MAX 16
#define LIMIT_KEY_BYTES_MAX 1024
#define LIMIT_TERM_WORDS 3
#define LIMIT_CLOSED 1
#define LIMIT_OBSERVE 2
#define LIMIT_GRACE_NS 100000000
#define LIMIT_ATTEMPTS_MAX 256
#define LIMIT_SPINS 64
#define LIMIT_SPIN_DOUBLINGS 4
#define TICKET_BITS 46
#define OFFSET_BITS 56
#define LIMIT_TIME_MAX_NS UINT64_C(2305843009213693951)
#define LIMIT_TERM_MAX_NS UINT64_C(1152921504606846975)
#define LIMIT_VOID UINT64_C(4611686018427387904)
#define LIMIT_BUSY UINT64_C(9223372036854775808)

/* counters that the table of limits itself counts: shm.counters.Counter */
#define COUNTER_LIMITS_CHARGED 13
#define COUNTER_LIMITS_REFUSED 14
#define COUNTER_LIMITS_FULL 15
#define COUNTER_LIMITS_RECLAIMED 16
#define COUNTER_LIMITS_STOLEN 17

/* reasons that are failures, a bit each */
#define FAILING_REASONS {0x8003ff0000000000ull, 0x0ull}

/* upper bounds of the histogram's buckets, inclusive, in ns */
#define BOUNDS_NS {500000ull, 1000000ull, 2500000ull, 5000000ull, 10000000ull, 25000000ull, 50000000ull, 100000000ull, 250000000ull, 500000000ull, 1000000000ull, 2500000000ull, 5000000000ull, 10000000000ull, 30000000000ull, 60000000000ull}

#endif
