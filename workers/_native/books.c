/* What is written of an exchange: a line of the access log and a record of the journal, in one call.
 *
 * The specification is the twin, workers/books_twin.py, which writes the line with msgspec and the record with
 * sentinel.core.record; a differential test compares both octet by octet. Here is the usual case only: a
 * record that has to be cut, or has a step that was not known beforehand, is asked of Python (`rare`).
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

/* The arguments of `enter`, in their order. */
enum argument {
    BEGAN_NS, DURATION_NS, REQUEST_ID, CLIENT_IP, METHOD, HOST, PATH, QUERY_BYTES, PROTOCOL, STATUS, REASON_NUMBER,
    REASON_WORD, ROUTE, UPSTREAM, ENDPOINT, ATTEMPTS, ANSWERED_NS, BYTES_IN, BYTES_OUT, USER_AGENT, LISTENER, STEPS,
    ARGUMENTS
};

/* sentinel.core.record: FIXED, RECORD_BYTES_MAX, VERSION; compared when a Books is made. */
enum { FIXED_BYTES = 46, RECORD_BYTES_MAX = 496, VERSION = 1, TEXTS = 9 };
/* workers.accesslog: characters that are kept of what a client can stretch. */
enum { PATH_CHARS_MAX = 1024, AGENT_CHARS_MAX = 256, WORD_CHARS_MAX = 128 };
enum { ESCAPED_MAX = 6, LITERALS_MAX = 768, TIME_BYTES = 24, STEPS_MAX = 255, TAIL_BYTES = 64 };

static const int texts_of_record[TEXTS] = {REQUEST_ID, LISTENER, CLIENT_IP, METHOD, HOST, PATH, ROUTE, UPSTREAM, ENDPOINT};

/* A step that is known beforehand; found by its address, which stays its own because it is owned. */
struct known {
    PyObject *step, *text;
    uint8_t number;
};

typedef struct {
    PyObject_HEAD
    PyObject *rare;
    struct known *known; /* open addressing; never more than half full */
    size_t places;
    char is_logged;
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

/* The fields of workers.accesslog.Entry, in its order. */
static char *put_line(char *p, const Books *books, const struct text *texts, const struct numbers *n)
{
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
    return put(p, books->tail, books->tail_size);
}

static int add_line(Books *books, const struct text *texts, const struct numbers *n)
{
    Py_ssize_t octets = 0;
    for (int i = 0; i < ARGUMENTS; i++)
        octets += texts[i].size;
    if (set_time(books, n->began_ns) < 0 || make_room(books, octets * ESCAPED_MAX + LITERALS_MAX) < 0)
        return -1;
    char *start = books->lines + books->lines_size, *end = put_line(start, books, texts, n);
    if (end - start > octets * ESCAPED_MAX + LITERALS_MAX)
        Py_FatalError("books: a line was longer than its bound");
    books->lines_size += end - start;
    books->lines_count++;
    return 0;
}

/* Records */

static size_t place_of(const Books *books, const PyObject *step)
{
    return ((uintptr_t)step >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20 & (books->places - 1);
}

static const struct known *find_step(const Books *books, const PyObject *step)
{
    size_t place = place_of(books, step);
    while (books->known[place].step != NULL && books->known[place].step != step)
        place = (place + 1) & (books->places - 1);
    return books->known[place].step != NULL ? &books->known[place] : NULL;
}

static uint8_t *put_le(uint8_t *p, uint64_t number, int octets)
{
    for (int i = 0; i < octets; i++)
        *p++ = (uint8_t)(number >> 8 * i);
    return p;
}

/* Encode the usual record; NULL without an exception when it is not a usual one. */
static PyObject *encode(const Books *books, const struct text *texts, const struct numbers *n, PyObject *steps)
{
    uint8_t record[RECORD_BYTES_MAX], *p = record;
    const struct known *found[STEPS_MAX];
    Py_ssize_t count = PyList_GET_SIZE(steps), size = FIXED_BYTES + TEXTS - 1 + 2 * count;
    if (count > STEPS_MAX || n->status > UINT16_MAX || n->attempts > UINT16_MAX || n->query_bytes > UINT16_MAX ||
        n->reason > UINT8_MAX || books->generation > UINT32_MAX)
        return NULL;
    for (int i = 0; i < TEXTS; i++) {
        const struct text *text = &texts[texts_of_record[i]];
        size += text->size;
        if (text->is_cut || memchr(text->at, 0, (size_t)text->size) != NULL)
            return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if ((found[i] = find_step(books, PyList_GET_ITEM(steps, i))) == NULL)
            return NULL;
        size += PyBytes_GET_SIZE(found[i]->text);
    }
    if (size > RECORD_BYTES_MAX)
        return NULL;
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
    for (Py_ssize_t i = 0; i < count; i++)
        *p++ = found[i]->number;
    for (int i = 0; i < TEXTS; i++) {
        const struct text *text = &texts[texts_of_record[i]];
        if (i > 0)
            *p++ = 0;
        memcpy(p, text->at, (size_t)text->size);
        p += text->size;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        size_t octets = (size_t)PyBytes_GET_SIZE(found[i]->text);
        *p++ = 0;
        memcpy(p, PyBytes_AS_STRING(found[i]->text), octets);
        p += octets;
    }
    if (p - record != size)
        Py_FatalError("books: a record is not as long as it was counted");
    return PyBytes_FromStringAndSize((const char *)record, size);
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
    PyObject *record = NULL;
    if (count != ARGUMENTS || !PyList_Check(args[STEPS])) {
        PyErr_Format(PyExc_TypeError, "expected %d arguments, the last of them a list", (int)ARGUMENTS);
        return NULL;
    }
    if (take_numbers(args, &numbers) == 0 && take_texts(args, texts) == 0 &&
        (!books->is_logged || add_line(books, texts, &numbers) == 0))
        record = encode(books, texts, &numbers, args[STEPS]);
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

/* (step, number of its reason, its text in a record) for each step that is known beforehand. */
static int know_steps(Books *books, PyObject *steps)
{
    Py_ssize_t count = PyList_GET_SIZE(steps);
    for (books->places = 16; books->places < 2 * (size_t)count;)
        books->places *= 2;
    books->known = PyMem_Calloc(books->places, sizeof *books->known);
    if (books->known == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *step, *text;
        unsigned char number;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(steps, i), "ObS", &step, &number, &text))
            return -1;
        size_t place = place_of(books, step);
        while (books->known[place].step != NULL && books->known[place].step != step)
            place = (place + 1) & (books->places - 1);
        if (books->known[place].step == NULL)
            books->known[place] = (struct known){Py_NewRef(step), Py_NewRef(text), number};
    }
    return 0;
}

static PyObject *books_new(PyTypeObject *type, PyObject *args, PyObject *unused)
{
    unsigned long long generation, worker;
    int is_logged, fixed_bytes, record_bytes_max, version;
    PyObject *steps, *rare;
    (void)unused;
    if (!PyArg_ParseTuple(args, "KKpO!O(iii)", &generation, &worker, &is_logged, &PyList_Type, &steps, &rare,
                          &fixed_bytes, &record_bytes_max, &version))
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
    books->generation = generation;
    books->second = books->ms = -1;
    char *end = PUT(books->tail, "\",\"generation\":");
    end = put_number(PUT(put_number(end, generation), ",\"worker\":"), worker);
    books->tail_size = (size_t)(PUT(end, "}\n") - books->tail);
    if (know_steps(books, steps) < 0)
        Py_CLEAR(books);
    return (PyObject *)books;
}

static int books_traverse(PyObject *self, visitproc visit, void *arg)
{
    Books *books = (Books *)self;
    Py_VISIT(books->rare);
    for (size_t i = 0; books->known != NULL && i < books->places; i++)
        Py_VISIT(books->known[i].step);
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
    for (size_t i = 0; books->known != NULL && i < books->places; i++) {
        Py_XDECREF(books->known[i].step);
        Py_XDECREF(books->known[i].text);
    }
    PyMem_Free(books->known);
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
