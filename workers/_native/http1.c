/* Heads of HTTP/1, parsed and built: the native kernel of workers.http1.heads.
 *
 * What a head means is in reader.h, which knows no Python; here are the two types, what becomes a Python
 * object and when, and the building. The full C API (not the limited one): this is the hot path.
 *
 * A head is one block of memory: the object, its fields (places, not strings), and the octets they point into.
 * The list of headers is made when it is asked for; building copies octets and makes no strings at all.
 *
 * Building writes at most `bound` octets, which is counted beforehand from what will be written: a line
 * that goes on grows by one octet at most (`name:value` becomes `name: value`).
 *
 * The GIL is held throughout, and a set of names to drop is a frozenset, so it cannot change under our hands.
 * The types take no part in cyclic collection: a head refers to strings and to a list of pairs of strings.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "reader.h"

enum { HEAD_MAX = 1 << 24, SMALL = 8192, METHODS = 9, SETS = 32, FILTER_WORDS = 4 };

_Static_assert((uint64_t)HEAD_MAX < UINT32_MAX, "places inside a head are 32 bits wide");

/* What a frozenset of names to drop means for known names, and which others it may contain. */
struct drop_set {
    PyObject *set; /* owned: so its address stays its own */
    uint8_t has_known[NAMES_MAX];
    uint64_t filter[FILTER_WORDS]; /* one bit by length and first letter; only unknown names need a look into the set */
};

/* Filled when the module is loaded, and then only read; apart from `drops`, a memory of the last sets. */
static struct {
    struct names names;
    PyObject *known[NAMES_MAX]; /* the str of each known name */
    PyObject *methods[METHODS];
    PyObject *framing_none, *framing_length, *framing_chunked, *framing_close, *empty;
    PyObject *client_fault, *upstream_fault, *reasons[REASONS];
    struct drop_set drops[SETS];
    unsigned drops_next;
} state;

static const char *const method_texts[METHODS] = {"GET",     "POST",  "HEAD",    "PUT",  "DELETE",
                                                  "OPTIONS", "PATCH", "CONNECT", "TRACE"};
static const char *const reason_texts[REASONS] = {
    [BAD_REQUEST_LINE] = "BAD_REQUEST_LINE", [BAD_HEADER] = "BAD_HEADER",
    [BAD_FRAMING] = "BAD_FRAMING",           [BAD_HOST] = "BAD_HOST",
    [BAD_VERSION] = "BAD_VERSION",           [BAD_EXPECTATION] = "BAD_EXPECTATION",
    [URI_TOO_LONG] = "URI_TOO_LONG",         [HEADER_TOO_LARGE] = "HEADER_TOO_LARGE",
    [UPSTREAM_MALFORMED] = "UPSTREAM_MALFORMED",
};

/* Both kinds of heads; what only one of them has is empty in the other. */
typedef struct {
    PyObject_VAR_HEAD
    PyObject *method, *target, *host, *upgrade, *headers;
    long long content_length, announced;
    int size, minor, status;
    char keep_alive, chunked, expect_continue, until_close;
    uint32_t phrase, phrase_size, fields_count;
    struct field fields[]; /* and then the octets of the head */
} Head;

static PyTypeObject RequestHead_Type, ResponseHead_Type;

static const uint8_t *octets_of(const Head *head)
{
    return (const uint8_t *)&head->fields[head->fields_count];
}

/* Heads as objects */

static void head_dealloc(PyObject *self)
{
    Head *head = (Head *)self;
    Py_XDECREF(head->method);
    Py_XDECREF(head->target);
    Py_XDECREF(head->host);
    Py_XDECREF(head->upgrade);
    Py_XDECREF(head->headers);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *text(const uint8_t *at, size_t size)
{
    return PyUnicode_DecodeLatin1((const char *)at, (Py_ssize_t)size, NULL);
}

/* The pair (name in lower case, value) of one field. */
static PyObject *pair(const Head *head, const struct field *field)
{
    const uint8_t *octets = octets_of(head);
    PyObject *name, *value, *result;
    if (field->known != UNKNOWN) {
        name = Py_NewRef(state.known[field->known]);
    } else {
        name = PyUnicode_New(field->name_size, 127);
        for (uint32_t i = 0; name != NULL && i < field->name_size; i++)
            PyUnicode_1BYTE_DATA(name)[i] = token_lower[octets[field->name + i]];
    }
    if (name == NULL)
        return NULL;
    value = text(octets + field->value, field->value_size);
    if (value == NULL || (result = PyTuple_New(2)) == NULL) {
        Py_DECREF(name);
        Py_XDECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(result, 0, name);
    PyTuple_SET_ITEM(result, 1, value);
    return result;
}

/* Made at the first question: most requests are routed without a look at any field. */
static PyObject *head_headers(PyObject *self, void *unused)
{
    Head *head = (Head *)self;
    (void)unused;
    if (head->headers == NULL) {
        PyObject *list = PyList_New(head->fields_count);
        for (uint32_t i = 0; list != NULL && i < head->fields_count; i++) {
            PyObject *item = pair(head, &head->fields[i]);
            if (item == NULL)
                Py_CLEAR(list);
            else
                PyList_SET_ITEM(list, i, item);
        }
        if (list == NULL)
            return NULL;
        /* Making pairs may have run the collector, and that any code, even this. */
        Py_XSETREF(head->headers, list);
    }
    return Py_NewRef(head->headers);
}

static int has_name(const Head *head, const struct field *field, const uint8_t *lower, size_t size)
{
    const uint8_t *name = octets_of(head) + field->name;
    if (field->name_size != size)
        return 0;
    for (size_t i = 0; i < size; i++)
        if (token_lower[name[i]] != lower[i])
            return 0;
    return 1;
}

/* A name in lower case that fields are looked for by. */
struct wanted {
    const uint8_t *lower;
    size_t size;
    uint16_t known;
};

static int take_name(PyObject *name, struct wanted *wanted)
{
    Py_ssize_t size;
    wanted->lower = PyUnicode_Check(name) ? (const uint8_t *)PyUnicode_AsUTF8AndSize(name, &size) : NULL;
    if (wanted->lower == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a name must be a str");
        return -1;
    }
    wanted->size = (size_t)size;
    wanted->known = size > 0 ? find_name(&state.names, wanted->lower, wanted->size) : UNKNOWN;
    return 0;
}

static int is_wanted(const Head *head, const struct field *field, const struct wanted *wanted)
{
    return field->known == wanted->known
           && (wanted->known != UNKNOWN || has_name(head, field, wanted->lower, wanted->size));
}

/* The value of the first field of this name, without making the others. */
static PyObject *head_first(PyObject *self, PyObject *name)
{
    const Head *head = (const Head *)self;
    struct wanted wanted;
    if (take_name(name, &wanted) < 0)
        return NULL;
    for (uint32_t i = 0; i < head->fields_count; i++)
        if (is_wanted(head, &head->fields[i], &wanted))
            return text(octets_of(head) + head->fields[i].value, head->fields[i].value_size);
    return Py_NewRef(state.empty);
}

/* The values of all fields of this name. */
static PyObject *head_values(PyObject *self, PyObject *name)
{
    const Head *head = (const Head *)self;
    struct wanted wanted;
    PyObject *list = take_name(name, &wanted) < 0 ? NULL : PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < head->fields_count; i++) {
        if (!is_wanted(head, &head->fields[i], &wanted))
            continue;
        PyObject *value = text(octets_of(head) + head->fields[i].value, head->fields[i].value_size);
        if (value == NULL || PyList_Append(list, value) < 0)
            Py_CLEAR(list);
        Py_XDECREF(value);
    }
    return list;
}

static PyObject *head_phrase(PyObject *self, void *unused)
{
    const Head *head = (const Head *)self;
    (void)unused;
    return text(octets_of(head) + head->phrase, head->phrase_size);
}

/* Never NULL in a head that is handed out. T_OBJECT_EX, for the interpreter reads such members as fast as slots. */
#define OBJECT(NAME) {#NAME, T_OBJECT_EX, offsetof(Head, NAME), READONLY, NULL}
#define NUMBER(NAME) {#NAME, T_INT, offsetof(Head, NAME), READONLY, NULL}
#define TRUTH(NAME) {#NAME, T_BOOL, offsetof(Head, NAME), READONLY, NULL}
#define COMMON                                                                                                     \
    NUMBER(minor), NUMBER(size), TRUTH(keep_alive), TRUTH(chunked), OBJECT(upgrade),                               \
        {"content_length", T_LONGLONG, offsetof(Head, content_length), READONLY, NULL}

static PyMethodDef request_methods[] = {
    {"first", head_first, METH_O, NULL}, {"values", head_values, METH_O, NULL}, {NULL, NULL, 0, NULL},
};
static PyMemberDef request_members[] = {
    OBJECT(method), OBJECT(target), OBJECT(host), TRUTH(expect_continue), COMMON, {NULL, 0, 0, 0, NULL},
};
static PyMemberDef response_members[] = {
    NUMBER(status), TRUTH(until_close), COMMON, {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef request_getters[] = {
    {"headers", head_headers, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL},
};
static PyGetSetDef response_getters[] = {
    {"headers", head_headers, NULL, NULL, NULL}, {"phrase", head_phrase, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL},
};

#define TYPE(NAME, METHODS, MEMBERS, GETTERS)                                                                               \
    {                                                                                                              \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "workers._native.http1." NAME,                                    \
        .tp_basicsize = offsetof(Head, fields), .tp_itemsize = 1, .tp_dealloc = head_dealloc,                      \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, .tp_members = MEMBERS,                 \
        .tp_getset = GETTERS, .tp_methods = METHODS,                                                               \
    }

static PyTypeObject RequestHead_Type = TYPE("RequestHead", request_methods, request_members, request_getters);
static PyTypeObject ResponseHead_Type = TYPE("ResponseHead", NULL, response_members, response_getters);

/* What the reader found, as an object. */
static Head *keep(const struct reader *r, PyTypeObject *type)
{
    size_t fields_size = r->fields_count * sizeof(struct field);
    Head *head = PyObject_NewVar(Head, type, (Py_ssize_t)(fields_size + r->size));
    if (head == NULL)
        return NULL;
    head->method = head->target = head->host = head->headers = NULL;
    head->upgrade = r->upgrade.size == 0 ? Py_NewRef(state.empty) : text(r->upgrade.at, r->upgrade.size);
    head->content_length = r->length;
    head->announced = r->announced;
    head->size = (int)r->size;
    head->minor = r->minor;
    head->status = (int)r->status;
    head->keep_alive = (char)r->keep_alive;
    head->chunked = (char)r->chunked;
    head->expect_continue = (char)r->expect_continue;
    head->until_close = (char)r->until_close;
    head->phrase = r->phrase.size == 0 ? 0 : (uint32_t)(r->phrase.at - r->base);
    head->phrase_size = (uint32_t)r->phrase.size;
    head->fields_count = r->fields_count;
    memcpy(head->fields, r->fields, fields_size);
    memcpy((uint8_t *)head->fields + fields_size, r->base, r->size);
    if (head->upgrade == NULL)
        Py_CLEAR(head);
    return head;
}

static PyObject *method_text(struct slice method)
{
    for (int i = 0; i < METHODS; i++)
        if (strlen(method_texts[i]) == method.size && memcmp(method_texts[i], method.at, method.size) == 0)
            return Py_NewRef(state.methods[i]);
    return text(method.at, method.size);
}

static PyObject *raise_fault(PyObject *fault, const struct reader *r)
{
    PyObject *exception = PyObject_CallFunction(fault, "Os", state.reasons[r->reason], r->detail);
    if (exception != NULL) {
        PyErr_SetObject(fault, exception);
        Py_DECREF(exception);
    }
    return NULL;
}

/* Arguments */

static int is_count_wrong(Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", wanted, given);
    return 1;
}

/* The octets of an argument; `view` is only taken for what is no bytes object. -1 with the exception set. */
static int take_octets(PyObject *object, Py_buffer *view, struct slice *octets)
{
    view->obj = NULL;
    if (PyBytes_Check(object)) {
        octets->at = (const uint8_t *)PyBytes_AS_STRING(object);
        octets->size = (size_t)PyBytes_GET_SIZE(object);
        return 0;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
        return -1;
    octets->at = view->buf;
    octets->size = (size_t)view->len;
    return 0;
}

static void give_back(Py_buffer *view)
{
    if (view->obj != NULL)
        PyBuffer_Release(view);
}

/* data, start, max_bytes, max_headers: the window, and a reader at its beginning. */
static int take_window(PyObject *const *args, Py_buffer *view, struct reader *r)
{
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    Py_ssize_t bytes_max = PyLong_AsSsize_t(args[2]);
    Py_ssize_t fields_max = PyLong_AsSsize_t(args[3]);
    struct slice octets;
    if (PyErr_Occurred() || take_octets(args[0], view, &octets) < 0)
        return -1;
    if (bytes_max <= 0 || bytes_max > HEAD_MAX || fields_max < 0 || fields_max > FIELDS_MAX) {
        PyErr_SetString(PyExc_ValueError, "a limit is out of range");
        goto failed;
    }
    if (start < 0 || (size_t)start > octets.size) {
        PyErr_SetString(PyExc_ValueError, "the start is out of range");
        goto failed;
    }
    size_t size = octets.size - (size_t)start;
    if (size > (size_t)bytes_max)
        size = (size_t)bytes_max;
    begin(r, &state.names, octets.at + start, octets.at + start + size, (uint32_t)fields_max);
    if (size == (size_t)bytes_max)
        r->detail = "the head is too long"; /* if it does not end here */
    return 0;
failed:
    give_back(view);
    return -1;
}

static enum outcome close_window(struct reader *r, enum outcome outcome, enum reason reason)
{
    int is_full = r->detail != NULL;
    return outcome == PARTIAL && is_full ? refuse(r, reason, r->detail) : outcome;
}

static PyObject *http1_parse_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct reader r;
    Py_buffer view;
    (void)module;
    if (is_count_wrong(count, 5))
        return NULL;
    Py_ssize_t uri_max = PyLong_AsSsize_t(args[4]);
    if (uri_max == -1 && PyErr_Occurred())
        return NULL;
    if (take_window(args, &view, &r) < 0)
        return NULL;
    if (uri_max <= 0 || uri_max > HEAD_MAX) {
        give_back(&view);
        PyErr_SetString(PyExc_ValueError, "a limit is out of range");
        return NULL;
    }
    enum outcome outcome = close_window(&r, read_request(&r, (size_t)uri_max), HEADER_TOO_LARGE);
    Head *head = NULL;
    if (outcome == WHOLE && (head = keep(&r, &RequestHead_Type)) != NULL) {
        head->method = method_text(r.method);
        head->target = text(r.target.at, r.target.size);
        head->host = r.has_host ? text(r.host.at, r.host.size) : Py_NewRef(Py_None);
        if (head->method == NULL || head->target == NULL || head->host == NULL)
            Py_CLEAR(head);
    }
    give_back(&view);
    if (outcome == PARTIAL)
        Py_RETURN_NONE;
    return outcome == WHOLE ? (PyObject *)head : raise_fault(state.client_fault, &r);
}

static PyObject *http1_parse_response(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct reader r;
    Py_buffer view;
    (void)module;
    if (is_count_wrong(count, 5))
        return NULL;
    if (!PyUnicode_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "the method must be a str");
        return NULL;
    }
    if (take_window(args, &view, &r) < 0)
        return NULL;
    int is_head = PyUnicode_GET_LENGTH(args[4]) == 4 && PyUnicode_CompareWithASCIIString(args[4], "HEAD") == 0;
    enum outcome outcome = close_window(&r, read_response(&r, is_head), UPSTREAM_MALFORMED);
    Head *head = outcome == WHOLE ? keep(&r, &ResponseHead_Type) : NULL;
    give_back(&view);
    if (outcome == PARTIAL)
        Py_RETURN_NONE;
    return outcome == WHOLE ? (PyObject *)head : raise_fault(state.upstream_fault, &r);
}

/* Names to drop */

static size_t filter_bit(size_t size, uint8_t first)
{
    return (size * 29 + first * 7) % (FILTER_WORDS * 64);
}

/* What this set means, remembered; NULL with the exception set. */
static const struct drop_set *drops_of(PyObject *set)
{
    for (int i = 0; i < SETS; i++)
        if (state.drops[i].set == set)
            return &state.drops[i];
    if (!PyFrozenSet_CheckExact(set)) {
        PyErr_SetString(PyExc_TypeError, "drop must be a frozenset");
        return NULL;
    }
    struct drop_set fresh = {.set = set};
    for (uint16_t i = 0; i < state.names.count; i++) {
        int found = PySet_Contains(set, state.known[i]);
        if (found < 0)
            return NULL;
        fresh.has_known[i] = (uint8_t)found;
    }
    PyObject *items = PySequence_List(set);
    if (items == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        if (!PyUnicode_Check(item) || PyUnicode_READY(item) < 0) {
            PyErr_SetString(PyExc_TypeError, "names to drop must be str");
            Py_DECREF(items);
            return NULL;
        }
        if (PyUnicode_GET_LENGTH(item) > 0) {
            size_t bit = filter_bit((size_t)PyUnicode_GET_LENGTH(item), (uint8_t)PyUnicode_READ_CHAR(item, 0));
            fresh.filter[bit / 64] |= UINT64_C(1) << bit % 64;
        }
    }
    Py_DECREF(items);
    struct drop_set *place = &state.drops[state.drops_next++ % SETS];
    PyObject *old = place->set;
    Py_INCREF(set);
    *place = fresh;
    Py_XDECREF(old);
    return place;
}

/* 1 if the set has this name, 0 if not, -1 with the exception set. */
static int is_dropped(const Head *head, const struct field *field, const struct drop_set *drops)
{
    if (field->known != UNKNOWN)
        return drops->has_known[field->known];
    uint8_t first = token_lower[octets_of(head)[field->name]];
    size_t bit = filter_bit(field->name_size, first);
    if ((drops->filter[bit / 64] >> bit % 64 & 1) == 0)
        return 0;
    PyObject *set = drops->set, *item = pair(head, field);
    if (item == NULL)
        return -1;
    int found = PySet_Contains(set, PyTuple_GET_ITEM(item, 0));
    Py_DECREF(item);
    return found;
}

/* Building: a place to write to, which is known to be large enough. */

struct writer {
    uint8_t *start, *at;
    size_t bound;
    uint8_t small[SMALL];
};

static int open_writer(struct writer *w, size_t bound)
{
    w->bound = bound;
    w->start = w->at = bound <= SMALL ? w->small : PyMem_Malloc(bound);
    if (w->start != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *close_writer(struct writer *w, int is_good)
{
    PyObject *result = NULL;
    size_t size = (size_t)(w->at - w->start);
    if (size > w->bound)
        Py_FatalError("http1: a head was longer than its bound");
    if (is_good)
        result = PyBytes_FromStringAndSize((const char *)w->start, (Py_ssize_t)size);
    if (w->start != w->small)
        PyMem_Free(w->start);
    return result;
}

static void put(struct writer *w, const void *octets, size_t size)
{
    memcpy(w->at, octets, size);
    w->at += size;
}

#define PUT(W, LITERAL) put(W, LITERAL, sizeof(LITERAL) - 1)

static void put_str(struct writer *w, PyObject *text)
{
    put(w, PyUnicode_1BYTE_DATA(text), (size_t)PyUnicode_GET_LENGTH(text));
}

static void put_number(struct writer *w, uint64_t number)
{
    uint8_t digits[20], *p = digits + sizeof digits;
    do
        *--p = (uint8_t)('0' + number % 10);
    while ((number /= 10) != 0);
    put(w, p, (size_t)(digits + sizeof digits - p));
}

/* Is this field for the next hop? Roles that are allowed only sometimes have their bit in `also`. */
static int is_end_to_end(const struct field *field, unsigned also)
{
    return !field->is_nominated && (field->role <= GUARDED || (also >> field->role & 1) != 0);
}

/* All lines that go on; -1 with the exception set. */
static int put_lines(struct writer *w, const Head *head, const struct drop_set *drops, unsigned also)
{
    const uint8_t *octets = octets_of(head);
    for (uint32_t i = 0; i < head->fields_count; i++) {
        const struct field *field = &head->fields[i];
        if (!is_end_to_end(field, also))
            continue;
        int dropped = is_dropped(head, field, drops);
        if (dropped < 0)
            return -1;
        if (dropped)
            continue;
        if (field->is_canonical) {
            put(w, octets + field->name, field->name_size + 2 + field->value_size + 2);
        } else {
            put(w, octets + field->name, field->name_size);
            PUT(w, ": ");
            put(w, octets + field->value, field->value_size);
            PUT(w, "\r\n");
        }
    }
    return 0;
}

/* How many octets put_lines writes at most. */
static size_t lines_bound(const Head *head)
{
    return (size_t)head->size + head->fields_count;
}

/* Text that stands in a start line or in Host: visible ASCII, or ValueError. */
static int is_unfit(PyObject *object)
{
    if (!PyUnicode_Check(object) || PyUnicode_READY(object) < 0) {
        PyErr_SetString(PyExc_TypeError, "a target and a host must be str");
        return 1;
    }
    if (PyUnicode_IS_ASCII(object) && PyUnicode_GET_LENGTH(object) > 0) {
        const uint8_t *start = PyUnicode_1BYTE_DATA(object), *end = start + PyUnicode_GET_LENGTH(object);
        if (visible_end(start, end) == end)
            return 0;
    }
    PyErr_SetString(PyExc_ValueError,
                    "a target or host is empty, or contains a control, a blank or a letter outside ASCII");
    return 1;
}

/* Lines that the gateway adds: whole lines whatever text went into them, or ValueError. */
static int is_extra_unfit(PyObject *object)
{
    if (!PyBytes_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "extra must be bytes");
        return 1;
    }
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(object);
    if (are_lines(start, start + PyBytes_GET_SIZE(object)))
        return 0;
    PyErr_SetString(PyExc_ValueError, "extra is not whole header lines");
    return 1;
}

static int is_other_type(PyObject *object, PyTypeObject *type)
{
    if (Py_IS_TYPE(object, type))
        return 0;
    PyErr_Format(PyExc_TypeError, "expected a head of type %s", type->tp_name);
    return 1;
}

enum { OURS_MAX = 192 }; /* the literals, numbers and the status line that are ours in any head */

static PyObject *http1_build_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct writer w;
    (void)module;
    if (is_count_wrong(count, 6) || is_other_type(args[0], &RequestHead_Type) || is_unfit(args[1]) ||
        is_unfit(args[2]) || is_extra_unfit(args[3]))
        return NULL;
    const Head *head = (const Head *)args[0];
    int chunked = PyObject_IsTrue(args[5]);
    const struct drop_set *drops = chunked < 0 ? NULL : drops_of(args[4]);
    size_t extra_size = (size_t)PyBytes_GET_SIZE(args[3]);
    size_t bound = lines_bound(head) + (size_t)PyUnicode_GET_LENGTH(head->method) +
                   (size_t)PyUnicode_GET_LENGTH(args[1]) + (size_t)PyUnicode_GET_LENGTH(args[2]) + extra_size +
                   (size_t)PyUnicode_GET_LENGTH(head->upgrade) + OURS_MAX;
    if (drops == NULL || open_writer(&w, bound) < 0)
        return NULL;
    put_str(&w, head->method);
    PUT(&w, " ");
    put_str(&w, args[1]);
    PUT(&w, " HTTP/1.1\r\nhost: ");
    put_str(&w, args[2]);
    PUT(&w, "\r\n");
    int is_good = put_lines(&w, head, drops, head->expect_continue ? 1u << EXPECT : 0) == 0;
    if (chunked) {
        PUT(&w, "transfer-encoding: chunked\r\n");
    } else if (head->content_length >= 0) {
        PUT(&w, "content-length: ");
        put_number(&w, (uint64_t)head->content_length);
        PUT(&w, "\r\n");
    }
    if (PyUnicode_GET_LENGTH(head->upgrade) > 0) {
        PUT(&w, "connection: upgrade\r\nupgrade: ");
        put_str(&w, head->upgrade);
        PUT(&w, "\r\n");
    }
    put(&w, PyBytes_AS_STRING(args[3]), extra_size);
    PUT(&w, "\r\n");
    return close_writer(&w, is_good);
}

/* How the body goes on: one of the four words. */
static PyObject *framing_for(const Head *head, long client_minor)
{
    if (head->content_length >= 0)
        return state.framing_length;
    if (!head->chunked && !head->until_close)
        return state.framing_none;
    return client_minor == 1 ? state.framing_chunked : state.framing_close;
}

static void put_connection(struct writer *w, const Head *head, int keep_alive, long client_minor, int is_closing)
{
    if (PyUnicode_GET_LENGTH(head->upgrade) > 0) {
        if (head->status == 101 || keep_alive)
            PUT(w, "connection: upgrade\r\nupgrade: ");
        else
            PUT(w, "connection: upgrade, close\r\nupgrade: ");
        put_str(w, head->upgrade);
        PUT(w, "\r\n");
    } else if (head->status >= 200 && (is_closing || !keep_alive)) {
        PUT(w, "connection: close\r\n");
    } else if (head->status >= 200 && client_minor == 0) {
        PUT(w, "connection: keep-alive\r\n");
    }
}

static void put_answer(struct writer *w, const Head *head)
{
    PUT(w, "HTTP/1.1 ");
    put_number(w, (uint64_t)head->status);
    PUT(w, " ");
    put(w, octets_of(head) + head->phrase, head->phrase_size);
    PUT(w, "\r\n");
}

static PyObject *http1_build_response(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct writer w;
    (void)module;
    if (is_count_wrong(count, 5) || is_other_type(args[0], &ResponseHead_Type) || is_extra_unfit(args[1]))
        return NULL;
    const Head *head = (const Head *)args[0];
    int keep_alive = PyObject_IsTrue(args[2]);
    long client_minor = PyLong_AsLong(args[3]);
    if (keep_alive < 0 || (client_minor == -1 && PyErr_Occurred()))
        return NULL;
    const struct drop_set *drops = drops_of(args[4]);
    size_t extra_size = (size_t)PyBytes_GET_SIZE(args[1]);
    size_t bound = lines_bound(head) + extra_size + (size_t)PyUnicode_GET_LENGTH(head->upgrade) + OURS_MAX;
    if (drops == NULL || open_writer(&w, bound) < 0)
        return NULL;
    PyObject *framing = framing_for(head, client_minor);
    int is_chunked = framing == state.framing_chunked;
    put_answer(&w, head);
    int is_good = put_lines(&w, head, drops, is_chunked && head->chunked ? 1u << TRAILER : 0) == 0;
    if (is_chunked) {
        PUT(&w, "transfer-encoding: chunked\r\n");
    } else if (head->announced >= 0 && head->status >= 200 && head->status != 204) {
        PUT(&w, "content-length: ");
        put_number(&w, (uint64_t)head->announced);
        PUT(&w, "\r\n");
    }
    put_connection(&w, head, keep_alive, client_minor, framing == state.framing_close);
    put(&w, PyBytes_AS_STRING(args[1]), extra_size);
    PUT(&w, "\r\n");
    PyObject *raw = close_writer(&w, is_good);
    if (raw == NULL)
        return NULL;
    PyObject *result = PyTuple_Pack(2, raw, framing);
    Py_DECREF(raw);
    return result;
}

/* Loading */

/* The table of names, from its one source. */
static int load_names(PyObject *roles)
{
    PyObject *name, *role;
    Py_ssize_t place = 0;
    while (PyDict_Next(roles, &place, &name, &role)) {
        Py_ssize_t size;
        const char *octets = PyUnicode_AsUTF8AndSize(name, &size);
        long number = PyLong_AsLong(role);
        if (octets == NULL || PyErr_Occurred())
            return -1;
        uint16_t index = state.names.count;
        if (number < 0 || number > UINT8_MAX ||
            add_name(&state.names, (const uint8_t *)octets, (size_t)size, (uint8_t)number) < 0) {
            PyErr_Format(PyExc_ValueError, "the name %R does not fit into the table", name);
            return -1;
        }
        state.known[index] = Py_NewRef(name);
        PyUnicode_InternInPlace(&state.known[index]);
    }
    return 0;
}

static PyObject *import(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module);
    PyObject *result = imported != NULL ? PyObject_GetAttrString(imported, name) : NULL;
    Py_XDECREF(imported);
    return result;
}

static int load_texts(void)
{
    for (int i = 0; i < METHODS; i++)
        if ((state.methods[i] = PyUnicode_InternFromString(method_texts[i])) == NULL)
            return -1;
    state.framing_none = PyUnicode_InternFromString("none");
    state.framing_length = PyUnicode_InternFromString("length");
    state.framing_chunked = PyUnicode_InternFromString("chunked");
    state.framing_close = PyUnicode_InternFromString("close");
    state.empty = PyUnicode_InternFromString("");
    return PyErr_Occurred() ? -1 : 0;
}

static int load_faults(void)
{
    PyObject *reasons = import("sentinel.core.reasons", "Reason");
    for (int i = 0; reasons != NULL && i < REASONS; i++)
        if ((state.reasons[i] = PyObject_GetAttrString(reasons, reason_texts[i])) == NULL)
            break;
    Py_XDECREF(reasons);
    state.client_fault = PyErr_Occurred() ? NULL : import("workers.http1.faults", "ClientFault");
    state.upstream_fault = PyErr_Occurred() ? NULL : import("workers.http1.faults", "UpstreamFault");
    return PyErr_Occurred() ? -1 : 0;
}

static PyMethodDef methods[] = {
    {"parse_request", (PyCFunction)(void (*)(void))http1_parse_request, METH_FASTCALL, NULL},
    {"build_request", (PyCFunction)(void (*)(void))http1_build_request, METH_FASTCALL, NULL},
    {"parse_response", (PyCFunction)(void (*)(void))http1_parse_response, METH_FASTCALL, NULL},
    {"build_response", (PyCFunction)(void (*)(void))http1_build_response, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "workers._native.http1", .m_doc = "See workers.http1.heads.", .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_http1(void)
{
    if (PyType_Ready(&RequestHead_Type) < 0 || PyType_Ready(&ResponseHead_Type) < 0)
        return NULL;
    PyObject *roles = import("workers.http1.names", "ROLES");
    int is_loaded = roles != NULL && load_names(roles) == 0 && load_texts() == 0 && load_faults() == 0;
    Py_XDECREF(roles);
    return is_loaded ? PyModule_Create(&definition) : NULL;
}
