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
#define HEADER_LAYOUT_CRC 8
#define HEADER_HEADER_CRC 9
#define HEADER_READY 10
#define HEADER_GENERATION 16
#define HEADER_SLOTS_USED 24
#define HEADER_SLOTS_FREED 25
#define HEADER_SERIES_COUNT 32
#define HEADER_SERIES_REFUSED 33

/* slot: places in words */
#define SLOT_WORDS 176
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
#define SLOT_COUNTERS 16
#define SLOT_LIVES 48

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

/* numbers */
#define CLASSES 6
#define BUCKETS 17
#define REASONS_MAX 128
#define COUNTERS_MAX 32
#define LIVES 32
#define LIFE_WORDS 4
#define STAGE_BITS 2
#define LENGTH_BITS 16
#define JOURNAL_RECORD_BYTES 504
#define SLOTS_LIMIT 256
#define SERIES_LIMIT 65536
#define JOURNAL_LIMIT 1048576

/* upper bounds of the histogram's buckets, inclusive, in ns */
#define BOUNDS_NS {500000ull, 1000000ull, 2500000ull, 5000000ull, 10000000ull, 25000000ull, 50000000ull, 100000000ull, 250000000ull, 500000000ull, 1000000000ull, 2500000000ull, 5000000000ull, 10000000000ull, 30000000000ull, 60000000000ull}

#endif
