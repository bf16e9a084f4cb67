/* Objects that begin as copies of a blank form: the native half of workers.blanks.
 *
 * An object of a class with `__slots__` and nothing else is a row of references. Setting sixty of them one by one is
 * what an interpreter does slowest; copying the row is one loop. The specification is workers.blanks.copied_by_name.
 *
 * The row is copied between the making of the object and anything else that could run: nothing is allocated in
 * between, so the collector never sees half of it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A class written in Python, right below `object`, whose instances are a head and references: no dict, no weak
 * references, no items. Only then Py_SIZE of it is the number of its slots, and they are all that there is. */
static int is_row_of_references(PyTypeObject *type)
{
    Py_ssize_t octets = type->tp_basicsize - (Py_ssize_t)sizeof(PyObject);
    return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) && PyType_IS_GC(type) && type->tp_base == &PyBaseObject_Type
           && type->tp_new == PyBaseObject_Type.tp_new && type->tp_alloc == PyType_GenericAlloc
           && type->tp_itemsize == 0 && type->tp_dictoffset == 0 && type->tp_weaklistoffset == 0
           && Py_SIZE(type) * (Py_ssize_t)sizeof(PyObject *) == octets;
}

static PyObject *blanks_copy_of(PyObject *self, PyObject *blank)
{
    PyTypeObject *type = Py_TYPE(blank);
    (void)self;
    if (!is_row_of_references(type))
        return PyErr_Format(PyExc_TypeError, "a %s has more than slots", type->tp_name);
    PyObject *copy = type->tp_alloc(type, 0);
    if (copy == NULL)
        return NULL;
    PyObject **from = (PyObject **)(blank + 1), **to = (PyObject **)(copy + 1);
    for (Py_ssize_t at = 0; at < Py_SIZE(type); at++)
        to[at] = Py_XNewRef(from[at]);
    return copy;
}

static PyMethodDef methods[] = {
    {"copy_of", blanks_copy_of, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "workers._native.blanks", .m_doc = "See workers.blanks.", .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_blanks(void)
{
    return PyModule_Create(&definition);
}
