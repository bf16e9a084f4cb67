/* What is written of an exchange: a line of the access log and a record of the journal, in one call.
 *
 * The specification is the twin, workers/books_twin.py, which writes the line with msgspec and the record with
 * sentinel.core.record; a differential test compares both octet by octet. Here is the usual case only: a
 * record that has to be cut, or has a step whose reason or place was not known beforehand, is asked of Python (`rare`).
 *
 * Lines gather in one buffer until somebody takes them. Before a line is written the buffer is made large
 * enough for the longest that these texts can become: escaping makes six octets of one at most.
 *
 * The GIL is held throughout. The full C API (not the limited one): this is the hot path.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

#include "../../shm/_native/siphash.h"

/* The arguments of `enter`, in their order. */
enum argument {
    BEGAN_NS, DURATION_NS, REQUEST_ID, CLIENT_IP, METHOD, HOST, PATH, QUERY_BYTES, PROTOCOL, STATUS, REASON_NUMBER,
    REASON_WORD, ROUTE, UPSTREAM, ENDPOINT, ATTEMPTS, ANSWERED_NS, BYTES_IN, BYTES_OUT, USER_AGENT, LISTENER, STEPS,
    ARGUMENTS
};

/* sentinel.core.record: FIXED, RECORD_BYTES_MAX, VERSION; compared when a Books is made. */
enum { FIXED_BYTES = 46, RECORD_BYTES_MAX = 496, VERSION = 2, TEXTS = 9, MARK_BYTES = 9 };
enum { BETWEEN = 0x1f, SAME_FILE = 0x1e };
/* workers.accesslog: characters that are kept of what a client can stretch. */
enum { PATH_CHARS_MAX = 1024, AGENT_CHARS_MAX = 256, WORD_CHARS_MAX = 128 };
/* workers.accesslog: what a pipe takes as one write. */
enum { LINE_BYTES_MAX = 4096 };
enum { ESCAPED_MAX = 6, LITERALS_MAX = 768, TIME_BYTES = 24, STEPS_MAX = 255, TAIL_BYTES = 64 };

static const int texts_of_record[TEXTS] = {REQUEST_ID, LISTENER, CLIENT_IP, METHOD, HOST, PATH, ROUTE, UPSTREAM, ENDPOINT};

/* What is known beforehand; found by its address, which stays its own because it is owned.
 *
 *     a reason   its number
 *     a span     the place as text, also after one of the same file; `file` tells these apart, -1: no place at all
 *     a step     number, place (of its span), and its details as text
 */
struct known {
    PyObject *object, *whole, *rest, *details;
    int file;
    uint8_t number;
};

/* Found by address; open addressing, never more than half full. */
struct book {
    struct known *known;
    size_t places;
};

typedef struct {
    PyObject_HEAD
    PyObject *rare;
    struct book reasons, spans, steps;
    uint64_t secret_low, secret_high;
    unsigned redacted; /* a bit for each text of the record */
    char is_logged, is_recorded;
    uint64_t generation;
    char *lines;
    Py_ssize_t lines_size, lines_room, lines_count;
    char tail[TAIL_BYTES]; /* the end of every line */
    size_t tail_size;
    int64_t second, ms;
    char time[TIME_BYTES + 1]; /* of `ms` */
} Books;

/* Texts as UTF-8 */

struct text {
    const char *at;
    Py_ssize_t size;
    PyObject *owned; /* keeps `at` alive; NULL when the argument itself does */
    int is_cut;
};

/* The first `chars_max` characters of a str; what UTF-8 cannot say becomes `?`. -1 with the exception set. */
static int take_text(PyObject *object, Py_ssize_t chars_max, struct text *text)
{
    text->owned = NULL;
    if (!PyUnicode_Check(object) || PyUnicode_READY(object) < 0) {
        PyErr_SetString(PyExc_TypeError, "a text must be a str");
        return -1;
    }
    Py_ssize_t size = PyUnicode_GET_LENGTH(object);
    text->is_cut = size > chars_max;
    if (PyUnicode_IS_ASCII(object)) {
        text->at = (const char *)PyUnicode_1BYTE_DATA(object);
        text->size = text->is_cut ? chars_max : size;
        return 0;
    }
    PyObject *part = text->is_cut ? PyUnicode_Substring(object, 0, chars_max) : Py_NewRef(object);
    if (part == NULL)
        return -1;
    text->owned = PyUnicode_AsEncodedString(part, "utf-8", "replace");
    Py_DECREF(part);
    if (text->owned == NULL)
        return -1;
    text->at = PyBytes_AS_STRING(text->owned);
    text->size = PyBytes_GET_SIZE(text->owned);
    return 0;
}

/* Lines */

static char *put(char *p, const void *octets, size_t size)
{
    memcpy(p, octets, size);
    return p + size;
}

#define PUT(P, LITERAL) put(P, LITERAL, sizeof(LITERAL) - 1)

static char *put_number(char *p, uint64_t number)
{
    char digits[20], *start = digits + sizeof digits;
    do
        *--start = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return put(p, start, (size_t)(digits + sizeof digits - start));
}

/* Microseconds as milliseconds, the way the shortest decimal of a double is written: 0.0, 1.25, 1000000.0 */
static char *put_ms(char *p, uint64_t us)
{
    p = put_number(p, us / 1000);
    *p++ = '.';
    unsigned rest = (unsigned)(us % 1000);
    *p++ = (char)('0' + rest / 100);
    if (rest % 100 != 0)
        *p++ = (char)('0' + rest / 10 % 10);
    if (rest % 10 != 0)
        *p++ = (char)('0' + rest % 10);
    return p;
}

/* What stands after the backslash for each octet that needs one; `u` for those that have no letter. */
static const char escapes[256] = {
    ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
    [0x00] = 'u', [0x01] = 'u', [0x02] = 'u', [0x03] = 'u', [0x04] = 'u', [0x05] = 'u', [0x06] = 'u', [0x07] = 'u',
    [0x0b] = 'u', [0x0e] = 'u', [0x0f] = 'u', [0x10] = 'u', [0x11] = 'u', [0x12] = 'u', [0x13] = 'u', [0x14] = 'u',
    [0x15] = 'u', [0x16] = 'u', [0x17] = 'u', [0x18] = 'u', [0x19] = 'u', [0x1a] = 'u', [0x1b] = 'u', [0x1c] = 'u',
    [0x1d] = 'u', [0x1e] = 'u', [0x1f] = 'u',
};

static char *put_escaped(char *p, const struct text *text)
{
    static const char hex[] = "0123456789abcdef";
    for (Py_ssize_t i = 0; i < text->size; i++) {
        uint8_t c = (uint8_t)text->at[i];
        char escape = escapes[c];
        if (escape == 0) {
            *p++ = (char)c;
            continue;
        }
        *p++ = '\\';
        *p++ = escape;
        if (escape == 'u') {
            p = PUT(p, "00");
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    return p;
}

/* RFC 3339 in UTC with milliseconds; made once a millisecond, the date once a second. */
static int set_time(Books *books, int64_t at_ns)
{
    int64_t ms = at_ns / 1000000, second = ms / 1000;
    unsigned rest = (unsigned)(ms % 1000);
    if (ms == books->ms)
        return 0;
    if (second != books->second) {
        time_t now = (time_t)second;
        struct tm tm;
        if (gmtime_r(&now, &tm) == NULL || strftime(books->time, sizeof books->time, "%Y-%m-%dT%H:%M:%S.", &tm) != 20) {
            PyErr_SetString(PyExc_ValueError, "the time is out of range");
            return -1;
        }
        books->second = second;
    }
    books->time[20] = (char)('0' + rest / 100);
    books->time[21] = (char)('0' + rest / 10 % 10);
    books->time[22] = (char)('0' + rest % 10);
    books->time[23] = 'Z';
    books->ms = ms;
    return 0;
}

static int make_room(Books *books, Py_ssize_t octets)
{
    Py_ssize_t wanted = books->lines_size + octets;
    if (wanted <= books->lines_room)
        return 0;
    Py_ssize_t room = wanted > 2 * books->lines_room ? wanted : 2 * books->lines_room;
    char *lines = PyMem_Realloc(books->lines, (size_t)room);
    if (lines == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    books->lines = lines;
    books->lines_room = room;
    return 0;
}

/* The numbers of an exchange, checked. */
struct numbers {
    int64_t began_ns, duration_ns, query_bytes, status, reason, attempts, answered_ns, bytes_in, bytes_out;
};

#define TEXT(P, NAME, INDEX) put_escaped(PUT(P, ",\"" NAME "\":\""), &texts[INDEX])
#define COUNT(P, NAME, NUMBER) put_number(PUT(P, "\",\"" NAME "\":"), (uint64_t)(NUMBER))

/* Fields that only some lines have, as JSON and each with a comma before it; none: size 0. */
struct more {
    char *at;
    Py_ssize_t size;
};

/* The fields of workers.accesslog.Entry, in its order. `more` comes before the generation, if there is room for it. */
static char *put_line(char *p, const Books *books, const struct text *texts, const struct numbers *n,
                      const struct more *more)
{
    const char *start = p;
    p = put(PUT(p, "{\"ts\":\""), books->time, TIME_BYTES);
    p = TEXT(PUT(p, "\""), "request_id", REQUEST_ID);
    p = TEXT(PUT(p, "\""), "client_ip", CLIENT_IP);
    p = TEXT(PUT(p, "\""), "method", METHOD);
    p = TEXT(PUT(p, "\""), "host", HOST);
    p = TEXT(PUT(p, "\""), "path", PATH);
    p = COUNT(p, "query_bytes", n->query_bytes);
    p = TEXT(p, "protocol", PROTOCOL);
    p = COUNT(p, "status", n->status);
    p = TEXT(p, "reason", REASON_WORD);
    p = TEXT(PUT(p, "\""), "route", ROUTE);
    p = TEXT(PUT(p, "\""), "upstream", UPSTREAM);
    p = TEXT(PUT(p, "\""), "endpoint", ENDPOINT);
    p = COUNT(p, "attempts", n->attempts);
    p = PUT(p, ",\"upstream_ms\":");
    p = n->answered_ns != 0 ? put_ms(p, (uint64_t)n->answered_ns / 1000) : PUT(p, "null");
    p = put_ms(PUT(p, ",\"duration_ms\":"), (uint64_t)n->duration_ns / 1000);
    p = put_number(PUT(p, ",\"bytes_in\":"), (uint64_t)n->bytes_in);
    p = put_number(PUT(p, ",\"bytes_out\":"), (uint64_t)n->bytes_out);
    p = TEXT(p, "user_agent", USER_AGENT);
    p = TEXT(PUT(p, "\""), "listener", LISTENER);
    if (more->size > 0 && p - start + more->size + (Py_ssize_t)books->tail_size <= LINE_BYTES_MAX) {
        *p++ = books->tail[0]; /* the quote after the listener */
        p = put(p, more->at, (size_t)more->size);
        return put(p, books->tail + 1, books->tail_size - 1);
    }
    return put(p, books->tail, books->tail_size);
}

static int add_line(Books *books, const struct text *texts, const struct numbers *n, const struct more *more)
{
    Py_ssize_t octets = more->size;
    for (int i = 0; i < ARGUMENTS; i++)
        octets += texts[i].size;
    if (set_time(books, n->began_ns) < 0 || make_room(books, octets * ESCAPED_MAX + LITERALS_MAX) < 0)
        return -1;
    char *start = books->lines + books->lines_size, *end = put_line(start, books, texts, n, more);
    if (end - start > octets * ESCAPED_MAX + LITERALS_MAX)
        Py_FatalError("books: a line was longer than its bound");
    books->lines_size += end - start;
    books->lines_count++;
    return 0;
}

/* Records */

static size_t place_of(const struct book *book, const PyObject *object)
{
    return ((uintptr_t)object >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20 & (book->places - 1);
}

static struct known *find(const struct book *book, const PyObject *object)
{
    size_t place = place_of(book, object);
    while (book->known[place].object != NULL && book->known[place].object != object)
        place = (place + 1) & (book->places - 1);
    return &book->known[place];
}

static uint8_t *put_le(uint8_t *p, uint64_t number, int octets)
{
    for (int i = 0; i < octets; i++)
        *p++ = (uint8_t)(number >> 8 * i);
    return p;
}

/* A record under way: octets are added while there is room; then, or with something unusual, it is not `ok`. */
struct draft {
    uint8_t octets[RECORD_BYTES_MAX];
    size_t size;
    int ok;
};

static void add(struct draft *draft, const void *octets, size_t size)
{
    if (size > RECORD_BYTES_MAX - draft->size) {
        draft->ok = 0;
        return;
    }
    memcpy(draft->octets + draft->size, octets, size);
    draft->size += size;
}

static void add_octet(struct draft *draft, char octet)
{
    add(draft, &octet, 1);
}

/* What stands for octets that are not to be read: `~` and 32 bits of their keyed hash. */
static void add_mark(const Books *books, struct draft *draft, const char *at, Py_ssize_t size)
{
    static const char hex[] = "0123456789abcdef";
    uint64_t hash =
        siphash_128(books->secret_low, books->secret_high, (const unsigned char *)at, (uint64_t)size).low;
    char mark[MARK_BYTES] = {'~'};
    for (int i = 1; i < MARK_BYTES; i++)
        mark[i] = hex[hash >> 4 * (MARK_BYTES - 1 - i) & 15];
    add(draft, mark, sizeof mark);
}

static void add_text(const Books *books, struct draft *draft, const struct text *text, int index)
{
    if (text->is_cut)
        draft->ok = 0;
    else if (books->redacted >> index & 1 && text->size > 0)
        add_mark(books, draft, text->at, text->size);
    else if (memchr(text->at, 0, (size_t)text->size) != NULL)
        draft->ok = 0;
    else
        add(draft, text->at, (size_t)text->size);
}

static void add_detail(const Books *books, struct draft *draft, PyObject *detail)
{
    if (PyUnicode_CheckExact(detail) && PyUnicode_IS_COMPACT_ASCII(detail)) {
        const char *at = (const char *)PyUnicode_1BYTE_DATA(detail);
        size_t size = (size_t)PyUnicode_GET_LENGTH(detail);
        for (size_t i = 0; i < size; i++)
            if (at[i] == 0 || at[i] == BETWEEN || at[i] == SAME_FILE)
                draft->ok = 0;
        add(draft, at, size);
    } else if (PyLong_CheckExact(detail)) {
        int overflow;
        char digits[20];
        long long number = PyLong_AsLongLongAndOverflow(detail, &overflow);
        if (overflow != 0 || number < 0)
            draft->ok = 0;
        else
            add(draft, digits, (size_t)(put_number(digits, (uint64_t)number) - digits));
    } else if (PyBytes_CheckExact(detail)) {
        add_mark(books, draft, PyBytes_AS_STRING(detail), PyBytes_GET_SIZE(detail));
    } else {
        draft->ok = 0;
    }
}

static void add_place(struct draft *draft, const struct known *span, int *file)
{
    if (span->file < 0)
        return;
    PyObject *text = span->file == *file ? span->rest : span->whole;
    add(draft, PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text));
    *file = span->file;
}

/* A step: its place and its details; returns the number of its reason. */
static uint8_t add_step(const Books *books, struct draft *draft, PyObject *step, int *file)
{
    const struct known *known = find(&books->steps, step);
    if (known->object != NULL) {
        add_octet(draft, 0);
        add_place(draft, known, file);
        add_octet(draft, 0);
        add(draft, PyBytes_AS_STRING(known->details), (size_t)PyBytes_GET_SIZE(known->details));
        return known->number;
    }
    if (!PyTuple_CheckExact(step) || PyTuple_GET_SIZE(step) != 3 || !PyTuple_CheckExact(PyTuple_GET_ITEM(step, 2))) {
        draft->ok = 0;
        return 0;
    }
    const struct known *reason = find(&books->reasons, PyTuple_GET_ITEM(step, 0));
    const struct known *span = find(&books->spans, PyTuple_GET_ITEM(step, 1));
    PyObject *details = PyTuple_GET_ITEM(step, 2);
    if (reason->object == NULL || span->object == NULL) {
        draft->ok = 0;
        return 0;
    }
    add_octet(draft, 0);
    add_place(draft, span, file);
    add_octet(draft, 0);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(details); i++) {
        if (i > 0)
            add_octet(draft, BETWEEN);
        add_detail(books, draft, PyTuple_GET_ITEM(details, i));
    }
    return reason->number;
}

/* Encode the usual record; NULL without an exception when it is not a usual one. */
static PyObject *encode(const Books *books, const struct text *texts, const struct numbers *n, PyObject *steps)
{
    struct draft draft;
    Py_ssize_t count = PyList_GET_SIZE(steps);
    int file = -1;
    if (count > STEPS_MAX || n->status > UINT16_MAX || n->attempts > UINT16_MAX || n->query_bytes > UINT16_MAX ||
        n->reason > UINT8_MAX || books->generation > UINT32_MAX)
        return NULL;
    draft.ok = 1;
    uint8_t *p = draft.octets;
    *p++ = VERSION;
    *p++ = 0;
    *p++ = (uint8_t)count;
    *p++ = (uint8_t)n->reason;
    p = put_le(p, (uint64_t)n->status, 2);
    p = put_le(p, (uint64_t)n->attempts, 2);
    p = put_le(p, (uint64_t)n->query_bytes, 2);
    p = put_le(p, books->generation, 4);
    p = put_le(p, (uint64_t)n->began_ns, 8);
    p = put_le(p, (uint64_t)n->duration_ns, 8);
    p = put_le(p, (uint64_t)n->bytes_in, 8);
    p = put_le(p, (uint64_t)n->bytes_out, 8);
    draft.size = FIXED_BYTES + (size_t)count; /* reasons come below */
    for (int i = 0; i < TEXTS && draft.ok; i++) {
        if (i > 0)
            add_octet(&draft, 0);
        add_text(books, &draft, &texts[texts_of_record[i]], i);
    }
    for (Py_ssize_t i = 0; i < count && draft.ok; i++)
        draft.octets[FIXED_BYTES + i] = add_step(books, &draft, PyList_GET_ITEM(steps, i), &file);
    if (!draft.ok)
        return NULL;
    return PyBytes_FromStringAndSize((const char *)draft.octets, (Py_ssize_t)draft.size);
}

/* The object */

static int take_number(PyObject *object, int64_t *number)
{
    *number = PyLong_AsLongLong(object);
    if (*number == -1 && PyErr_Occurred())
        return -1;
    if (*number >= 0)
        return 0;
    PyErr_SetString(PyExc_ValueError, "a number is negative");
    return -1;
}

static int take_numbers(PyObject *const *args, struct numbers *n)
{
    return take_number(args[BEGAN_NS], &n->began_ns) < 0 || take_number(args[DURATION_NS], &n->duration_ns) < 0 ||
                   take_number(args[QUERY_BYTES], &n->query_bytes) < 0 || take_number(args[STATUS], &n->status) < 0 ||
                   take_number(args[REASON_NUMBER], &n->reason) < 0 || take_number(args[ATTEMPTS], &n->attempts) < 0 ||
                   take_number(args[ANSWERED_NS], &n->answered_ns) < 0 ||
                   take_number(args[BYTES_IN], &n->bytes_in) < 0 || take_number(args[BYTES_OUT], &n->bytes_out) < 0
               ? -1
               : 0;
}

static int take_texts(PyObject *const *args, struct text *texts)
{
    static const struct { int argument; Py_ssize_t chars_max; } all[] = {
        {REQUEST_ID, PY_SSIZE_T_MAX}, {CLIENT_IP, PY_SSIZE_T_MAX}, {METHOD, PY_SSIZE_T_MAX},
        {HOST, WORD_CHARS_MAX}, {PATH, PATH_CHARS_MAX}, {PROTOCOL, PY_SSIZE_T_MAX}, {REASON_WORD, PY_SSIZE_T_MAX},
        {ROUTE, PY_SSIZE_T_MAX}, {UPSTREAM, PY_SSIZE_T_MAX}, {ENDPOINT, PY_SSIZE_T_MAX},
        {USER_AGENT, AGENT_CHARS_MAX}, {LISTENER, PY_SSIZE_T_MAX},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (take_text(args[all[i].argument], all[i].chars_max, &texts[all[i].argument]) < 0)
            return -1;
    return 0;
}

static PyObject *books_enter(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Books *books = (Books *)self;
    struct text texts[ARGUMENTS] = {{NULL, 0, NULL, 0}};
    struct numbers numbers;
    struct more more = {NULL, 0};
    PyObject *record = NULL;
    if ((count != ARGUMENTS && count != ARGUMENTS + 1) || !PyList_Check(args[STEPS])) {
        PyErr_Format(PyExc_TypeError, "expected %d arguments, the last of them a list, and perhaps another",
                     (int)ARGUMENTS);
        return NULL;
    }
    if (count > ARGUMENTS && PyBytes_AsStringAndSize(args[ARGUMENTS], &more.at, &more.size) < 0)
        return NULL;
    if (take_numbers(args, &numbers) == 0 && take_texts(args, texts) == 0 &&
        (!books->is_logged || add_line(books, texts, &numbers, &more) == 0))
        record = books->is_recorded ? encode(books, texts, &numbers, args[STEPS]) : PyBytes_FromStringAndSize(NULL, 0);
    for (int i = 0; i < ARGUMENTS; i++)
        Py_XDECREF(texts[i].owned);
    if (record != NULL || PyErr_Occurred() || books->rare == NULL)
        return record;
    return PyObject_Vectorcall(books->rare, args, ARGUMENTS, NULL);
}

static PyObject *books_take_lines(PyObject *self, PyObject *unused)
{
    Books *books = (Books *)self;
    (void)unused;
    PyObject *lines = PyBytes_FromStringAndSize(books->lines, books->lines_size);
    if (lines != NULL)
        books->lines_size = books->lines_count = 0;
    return lines;
}

/* Have room for `count` objects. */
static int found_book(struct book *book, Py_ssize_t count)
{
    for (book->places = 16; book->places < 2 * (size_t)count;)
        book->places *= 2;
    book->known = PyMem_Calloc(book->places, sizeof *book->known);
    if (book->known != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* (reason, its number) for each reason there is. */
static int know_reasons(Books *books, PyObject *reasons)
{
    if (found_book(&books->reasons, PyList_GET_SIZE(reasons)) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(reasons); i++) {
        PyObject *reason;
        unsigned char number;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(reasons, i), "Ob", &reason, &number))
            return -1;
        struct known *known = find(&books->reasons, reason);
        if (known->object == NULL)
            *known = (struct known){.object = Py_NewRef(reason), .number = number};
    }
    return 0;
}

/* (span, its text, its text after one of the same file, number of the file) for each place that is known. */
static int know_spans(Books *books, PyObject *spans)
{
    if (found_book(&books->spans, PyList_GET_SIZE(spans)) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(spans); i++) {
        PyObject *span, *whole, *rest;
        int file;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(spans, i), "OSSi", &span, &whole, &rest, &file))
            return -1;
        struct known *known = find(&books->spans, span);
        if (known->object == NULL)
            *known = (struct known){
                .object = Py_NewRef(span), .whole = Py_NewRef(whole), .rest = Py_NewRef(rest), .file = file,
            };
    }
    return 0;
}

/* (step, its details as text) for each step that is known; its reason and its span are known already. */
static int know_steps(Books *books, PyObject *steps)
{
    if (found_book(&books->steps, PyList_GET_SIZE(steps)) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(steps); i++) {
        PyObject *step, *details;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(steps, i), "O!S", &PyTuple_Type, &step, &details))
            return -1;
        if (PyTuple_GET_SIZE(step) != 3) {
            PyErr_SetString(PyExc_ValueError, "a step has three parts");
            return -1;
        }
        const struct known *reason = find(&books->reasons, PyTuple_GET_ITEM(step, 0));
        const struct known *span = find(&books->spans, PyTuple_GET_ITEM(step, 1));
        if (reason->object == NULL || span->object == NULL) {
            PyErr_SetString(PyExc_ValueError, "a step has a reason or a place that is not known");
            return -1;
        }
        struct known *known = find(&books->steps, step);
        if (known->object == NULL)
            *known = (struct known){
                .object = Py_NewRef(step), .whole = Py_NewRef(span->whole), .rest = Py_NewRef(span->rest),
                .details = Py_NewRef(details), .file = span->file, .number = reason->number,
            };
    }
    return 0;
}

static void forget(struct book *book)
{
    for (size_t i = 0; book->known != NULL && i < book->places; i++) {
        Py_XDECREF(book->known[i].object);
        Py_XDECREF(book->known[i].whole);
        Py_XDECREF(book->known[i].rest);
        Py_XDECREF(book->known[i].details);
    }
    PyMem_Free(book->known);
}

static PyObject *books_new(PyTypeObject *type, PyObject *args, PyObject *unused)
{
    unsigned long long generation, worker;
    unsigned long long secret_low, secret_high;
    int is_logged, is_recorded, fixed_bytes, record_bytes_max, version;
    unsigned redacted;
    PyObject *reasons, *spans, *steps, *rare;
    (void)unused;
    if (!PyArg_ParseTuple(args, "KKppO!O!O!(KK)IO(iii)", &generation, &worker, &is_logged, &is_recorded, &PyList_Type,
                          &reasons, &PyList_Type, &spans, &PyList_Type, &steps, &secret_low, &secret_high, &redacted,
                          &rare, &fixed_bytes, &record_bytes_max, &version))
        return NULL;
    if (fixed_bytes != FIXED_BYTES || record_bytes_max != RECORD_BYTES_MAX || version != VERSION) {
        PyErr_SetString(PyExc_ValueError, "sentinel.core.record has another layout of records");
        return NULL;
    }
    Books *books = (Books *)type->tp_alloc(type, 0);
    if (books == NULL)
        return NULL;
    books->rare = Py_NewRef(rare);
    books->is_logged = (char)is_logged;
    books->is_recorded = (char)is_recorded;
    books->redacted = redacted;
    books->secret_low = secret_low;
    books->secret_high = secret_high;
    books->generation = generation;
    books->second = books->ms = -1;
    char *end = PUT(books->tail, "\",\"generation\":");
    end = put_number(PUT(put_number(end, generation), ",\"worker\":"), worker);
    books->tail_size = (size_t)(PUT(end, "}\n") - books->tail);
    if (know_reasons(books, reasons) < 0 || know_spans(books, spans) < 0 || know_steps(books, steps) < 0)
        Py_CLEAR(books);
    return (PyObject *)books;
}

static int books_traverse(PyObject *self, visitproc visit, void *arg)
{
    Books *books = (Books *)self;
    const struct book *all[] = {&books->reasons, &books->spans, &books->steps};
    Py_VISIT(books->rare);
    for (size_t b = 0; b < sizeof all / sizeof all[0]; b++)
        for (size_t i = 0; all[b]->known != NULL && i < all[b]->places; i++)
            Py_VISIT(all[b]->known[i].object);
    return 0;
}

static int books_clear(PyObject *self)
{
    Books *books = (Books *)self;
    Py_CLEAR(books->rare);
    return 0;
}

static void books_dealloc(PyObject *self)
{
    Books *books = (Books *)self;
    PyObject_GC_UnTrack(self);
    (void)books_clear(self);
    forget(&books->reasons);
    forget(&books->spans);
    forget(&books->steps);
    PyMem_Free(books->lines);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef books_methods[] = {
    {"enter", (PyCFunction)(void (*)(void))books_enter, METH_FASTCALL, NULL},
    {"take_lines", books_take_lines, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef books_members[] = {
    {"lines_bytes", T_PYSSIZET, offsetof(Books, lines_size), READONLY, NULL},
    {"lines_count", T_PYSSIZET, offsetof(Books, lines_count), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject Books_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "workers._native.books.Books",
    .tp_basicsize = sizeof(Books),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = books_new,
    .tp_dealloc = books_dealloc,
    .tp_traverse = books_traverse,
    .tp_clear = books_clear,
    .tp_methods = books_methods,
    .tp_members = books_members,
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "workers._native.books", .m_doc = "See workers.books.", .m_size = -1,
};

PyMODINIT_FUNC PyInit_books(void)
{
    PyObject *module = PyType_Ready(&Books_Type) < 0 ? NULL : PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "Books", (PyObject *)&Books_Type) < 0)
        Py_CLEAR(module);
    return module;
}
