/* What the standard library has no word for, said to a context of its: the native half of workers.contexts.
 *
 * The library makes contexts, and cannot say by which keys they write tickets, nor which groups they agree on keys in.
 * OpenSSL can, by SSL_CTX_ctrl; what is missing is the SSL_CTX itself, and the very libssl that made it.
 *
 * The context: in CPython it is the first field behind an object's head (Modules/_ssl.c, PySSLContext), and has been since
 * 3.2. Which versions that was looked up for is said below; of any other nothing is touched. What was found is believed
 * only if OpenSSL says the same of it as Python does (options_of).
 *
 * The library: not linked to, since another libssl than that of _ssl would be given a structure of a stranger's. Its
 * functions are looked up through the handle of _ssl, so they are those that _ssl calls.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <stdint.h>

#define SSL_CTRL_SET_TLSEXT_TICKET_KEYS 59
#define SSL_CTRL_SET_GROUPS_LIST 92
#define KEYS_BYTES 80 /* name 16, HMAC 32, AES 32: since OpenSSL 1.1.0 */

#if PY_VERSION_HEX >= 0x030b0000 && PY_VERSION_HEX < 0x030f0000 && !defined(Py_GIL_DISABLED) && !defined(PYPY_VERSION)
#define IS_KNOWN 1
#else
#define IS_KNOWN 0
#endif

typedef long ctrl_function(void *context, int command, long size, void *data);
typedef uint64_t options_function(const void *context);
typedef void clear_function(void);

static void *found_in(void *handle, const char *name)
{
    void *found = handle != NULL ? dlsym(handle, name) : NULL;
    dlerror();
    return found;
}

/* The options of a context as Python knows them; -1 with an exception. */
static int options_of(PyObject *context, uint64_t *options)
{
    PyObject *said = PyObject_GetAttrString(context, "options");
    PyObject *number = said != NULL ? PyNumber_Index(said) : NULL;
    Py_XDECREF(said);
    if (number == NULL)
        return -1;
    *options = PyLong_AsUnsignedLongLongMask(number);
    Py_DECREF(number);
    return PyErr_Occurred() ? -1 : 0;
}

/* Say it to OpenSSL: 1 it is so now, 0 it is not, -1 with an exception. The data is read, and not kept. */
static int said_to(PyObject *module, PyObject *context, int command, long size, void *data)
{
    PyObject *base = PyObject_GetAttrString(module, "_SSLContext"), *place = NULL;
    void *handle = NULL;
    int result = -1;
    if (base == NULL)
        return -1;
    if (!PyType_Check(base) || !PyObject_TypeCheck(context, (PyTypeObject *)base)) {
        PyErr_SetString(PyExc_TypeError, "a context of the ssl module's is expected");
        goto done;
    }
    if (!IS_KNOWN || ((PyTypeObject *)base)->tp_basicsize < (Py_ssize_t)(sizeof(PyObject) + sizeof(void *))) {
        result = 0;
        goto done;
    }
    place = PyObject_GetAttrString(module, "__file__");
    if (place == NULL)
        PyErr_Clear(); /* linked into the interpreter, and so is libssl, perhaps under its own names */
    const char *path = place != NULL ? PyUnicode_AsUTF8(place) : NULL;
    uint64_t known;
    if (PyErr_Occurred() || options_of(context, &known) < 0)
        goto done;
    handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    ctrl_function *ctrl = (ctrl_function *)(uintptr_t)found_in(handle, "SSL_CTX_ctrl");
    options_function *options = (options_function *)(uintptr_t)found_in(handle, "SSL_CTX_get_options");
    void *made = *(void **)((char *)context + sizeof(PyObject));
    /* Python's is signed before 3.12 and as wide as a long: the low 32 bits are the same in all. */
    int is_it = ctrl != NULL && options != NULL && made != NULL && (uint32_t)options(made) == (uint32_t)known;
    result = is_it && ctrl(made, command, size, data) == 1;
    /* Why not is nobody's to read later: the library takes what lies in OpenSSL's queue for its own mishap. */
    clear_function *clear = (clear_function *)(uintptr_t)found_in(handle, "ERR_clear_error");
    if (clear != NULL)
        clear();
done:
    if (handle != NULL)
        dlclose(handle);
    Py_XDECREF(place);
    Py_DECREF(base);
    return result;
}

/* set_keys(module, context, keys) -> bool: whether the context writes its tickets by these keys now. */
static PyObject *contexts_set_keys(PyObject *self, PyObject *args)
{
    PyObject *module, *context;
    Py_buffer keys;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOy*", &module, &context, &keys))
        return NULL;
    int result = -1;
    if (keys.len == KEYS_BYTES)
        result = said_to(module, context, SSL_CTRL_SET_TLSEXT_TICKET_KEYS, KEYS_BYTES, keys.buf);
    else
        PyErr_Format(PyExc_ValueError, "keys have %d octets", KEYS_BYTES);
    PyBuffer_Release(&keys);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

/* set_groups(module, context, names) -> bool: whether keys are agreed on in these groups only; names as OpenSSL's. */
static PyObject *contexts_set_groups(PyObject *self, PyObject *args)
{
    PyObject *module, *context;
    const char *names;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOs", &module, &context, &names))
        return NULL;
    int result = said_to(module, context, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)names);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

static PyMethodDef methods[] = {
    {"set_keys", contexts_set_keys, METH_VARARGS, NULL},
    {"set_groups", contexts_set_groups, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "workers._native.contexts", .m_doc = "See workers.contexts.", .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_contexts(void)
{
    return PyModule_Create(&definition);
}
