/* What rate limits tell: words for the client, steps for the trace. The native half of workers.telling.
 *
 * The specifications are sentinel.core.limits.tell and workers.telling.written; a differential test compares octet by
 * octet. Nothing here decides anything: the charge is over, and these are its numbers in words.
 *
 * What is written is counted beforehand: a number has at most 20 digits. Limits are few (LIMITS_MAX), their names
 * are ASCII, and every number fits in 64 bits; else it is ValueError or OverflowError, never a write outside.
 *
 * The GIL is held throughout. The full C API (not the limited one): this is the hot path.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

enum { LIMITS_MAX = 64, DIGITS_MAX = 20, HEAD = 2, ROW = 7, BETWEEN = 8 };

static const uint64_t second_ns = 1000000000;

static char *put(char *p, const void *octets, Py_ssize_t size)
{
    memcpy(p, octets, (size_t)size);
    return p + size;
}

static char *put_number(char *p, uint64_t number)
{
    char digits[DIGITS_MAX], *start = digits + sizeof digits;
    do
        *--start = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return put(p, start, digits + sizeof digits - start);
}

/* A row: (label, capacity_ns, interval_ns, reason, span, name, burst); its key is beside it. */
struct row {
    PyObject *label, *reason, *span, *name, *burst, *key;
    uint64_t capacity_ns, interval_ns, used_ns;
};

static int take_word(PyObject *number, uint64_t *word)
{
    *word = PyLong_AsUnsignedLongLong(number);
    return *word == UINT64_MAX && PyErr_Occurred() ? -1 : 0;
}

static int take_row(PyObject *object, PyObject *key, PyObject *used, struct row *row)
{
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != ROW) {
        PyErr_SetString(PyExc_TypeError, "a row is a tuple of seven");
        return -1;
    }
    row->label = PyTuple_GET_ITEM(object, 0);
    row->reason = PyTuple_GET_ITEM(object, 3);
    row->span = PyTuple_GET_ITEM(object, 4);
    row->name = PyTuple_GET_ITEM(object, 5);
    row->burst = PyTuple_GET_ITEM(object, 6);
    row->key = key;
    if (!PyUnicode_Check(row->label) || PyUnicode_READY(row->label) < 0) {
        PyErr_SetString(PyExc_TypeError, "a row begins with a str and two numbers");
        return -1;
    }
    if (take_word(PyTuple_GET_ITEM(object, 1), &row->capacity_ns) < 0
        || take_word(PyTuple_GET_ITEM(object, 2), &row->interval_ns) < 0 || take_word(used, &row->used_ns) < 0)
        return -1;
    if (!PyUnicode_IS_ASCII(row->label) || row->interval_ns == 0) {
        PyErr_SetString(PyExc_ValueError, "a row with a strange name or no interval");
        return -1;
    }
    return 0;
}

static uint64_t remaining_of(const struct row *row)
{
    return row->used_ns < row->capacity_ns ? (row->capacity_ns - row->used_ns) / row->interval_ns : 0;
}

/* (reason, span, (name, remaining, burst, key)) */
static PyObject *step_of(const struct row *row, uint64_t remaining)
{
    PyObject *number = PyLong_FromUnsignedLongLong(remaining), *step = NULL;
    PyObject *details = number != NULL ? PyTuple_Pack(4, row->name, number, row->burst, row->key) : NULL;
    if (details != NULL)
        step = PyTuple_Pack(3, row->reason, row->span, details);
    Py_XDECREF(number);
    Py_XDECREF(details);
    return step;
}

static PyObject *telling_tell(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct row rows[LIMITS_MAX];
    Py_ssize_t rows_count, size = 0;
    (void)self;
    if (count != 3 || !PyTuple_Check(args[0]) || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of rows, their keys, and what was charged");
        return NULL;
    }
    rows_count = PyTuple_GET_SIZE(args[0]);
    if (rows_count > LIMITS_MAX || PyTuple_GET_SIZE(args[1]) != rows_count
        || PyTuple_GET_SIZE(args[2]) != rows_count + HEAD) {
        PyErr_SetString(PyExc_ValueError, "as many rows as were charged, and no more than 64");
        return NULL;
    }
    for (Py_ssize_t at = 0; at < rows_count; at++) {
        if (take_row(PyTuple_GET_ITEM(args[0], at), PyTuple_GET_ITEM(args[1], at),
                     PyTuple_GET_ITEM(args[2], at + HEAD), &rows[at]) < 0)
            return NULL;
        size += PyUnicode_GET_LENGTH(rows[at].label) + 2 * DIGITS_MAX + BETWEEN;
    }
    char small[1024], *text = size <= (Py_ssize_t)sizeof small ? small : PyMem_Malloc((size_t)size), *p = text;
    PyObject *steps = text != NULL ? PyList_New(rows_count) : PyErr_NoMemory(), *result = NULL;
    for (Py_ssize_t at = 0; steps != NULL && at < rows_count; at++) {
        uint64_t remaining = remaining_of(&rows[at]), used_ns = rows[at].used_ns;
        if (at > 0)
            p = put(p, ", ", 2);
        p = put(p, PyUnicode_1BYTE_DATA(rows[at].label), PyUnicode_GET_LENGTH(rows[at].label));
        p = put_number(p, remaining);
        p = put(p, ";t=", 3);
        p = put_number(p, used_ns / second_ns + (used_ns % second_ns != 0));
        PyObject *step = step_of(&rows[at], remaining);
        if (step == NULL)
            Py_CLEAR(steps); /* which ends the loop */
        else
            PyList_SET_ITEM(steps, at, step);
    }
    PyObject *state = steps != NULL ? PyUnicode_New(p - text, 127) : NULL;
    if (state != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(state), text, (size_t)(p - text));
        result = PyTuple_Pack(2, state, steps);
    }
    Py_XDECREF(state);
    Py_XDECREF(steps);
    if (text != small)
        PyMem_Free(text);
    return result;
}

/* One text of a field: latin-1, as in a head. */
static int take_text(PyObject *object, const char **at, Py_ssize_t *size)
{
    if (!PyUnicode_Check(object) || PyUnicode_READY(object) < 0) {
        PyErr_SetString(PyExc_TypeError, "a field is two str");
        return -1;
    }
    if (PyUnicode_KIND(object) != PyUnicode_1BYTE_KIND) {
        PyErr_SetString(PyExc_ValueError, "a field's text is not latin-1");
        return -1;
    }
    *at = (const char *)PyUnicode_1BYTE_DATA(object);
    *size = PyUnicode_GET_LENGTH(object);
    return 0;
}

/* Lines as they are, and behind them one for each field. */
static PyObject *telling_written(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    if (count != 2 || !PyBytes_Check(args[0]) || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "expected lines, and a tuple of fields");
        return NULL;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]), fields = PyTuple_GET_SIZE(args[1]);
    for (Py_ssize_t at = 0; at < fields; at++) {
        PyObject *field = PyTuple_GET_ITEM(args[1], at);
        const char *name, *value;
        Py_ssize_t name_size, value_size;
        if (!PyTuple_Check(field) || PyTuple_GET_SIZE(field) != 2) {
            PyErr_SetString(PyExc_TypeError, "a field is two str");
            return NULL;
        }
        if (take_text(PyTuple_GET_ITEM(field, 0), &name, &name_size) < 0
            || take_text(PyTuple_GET_ITEM(field, 1), &value, &value_size) < 0)
            return NULL;
        size += name_size + value_size + 4;
    }
    PyObject *lines = PyBytes_FromStringAndSize(NULL, size);
    if (lines == NULL)
        return NULL;
    char *p = put(PyBytes_AS_STRING(lines), PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0]));
    for (Py_ssize_t at = 0; at < fields; at++) {
        PyObject *name = PyTuple_GET_ITEM(PyTuple_GET_ITEM(args[1], at), 0);
        PyObject *value = PyTuple_GET_ITEM(PyTuple_GET_ITEM(args[1], at), 1);
        p = put(p, PyUnicode_1BYTE_DATA(name), PyUnicode_GET_LENGTH(name));
        p = put(p, ": ", 2);
        p = put(p, PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value));
        p = put(p, "\r\n", 2);
    }
    return lines;
}

static PyMethodDef methods[] = {
    {"tell", (PyCFunction)(void (*)(void))telling_tell, METH_FASTCALL, NULL},
    {"written", (PyCFunction)(void (*)(void))telling_written, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "workers._native.telling", .m_doc = "See workers.telling.", .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_telling(void)
{
    return PyModule_Create(&definition);
}
