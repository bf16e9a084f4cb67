/* The operations of shm.cells.Cells on a buffer; what they do is in kernel.h, how they are called here.
 *
 * Limited API (3.11), so that one build serves all later versions. Calls take their arguments as an
 * array (METH_FASTCALL) and check each: a number that does not fit is IndexError or OverflowError, never
 * an access outside. Nothing is allocated but what a reading returns.
 *
 * The GIL is held throughout, since an operation is shorter than letting go of it; but for the one that
 * reads the whole table of limits.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "budgets.h"
#include "places.h"

typedef struct {
    PyObject_HEAD
    Py_buffer view;
    int is_open;
    struct region region;
    struct region leases; /* The same with the table of leases in the place of that of limits. */
    struct region budgets; /* And with that of budgets. */
} Cells;

/* Arguments */

static int is_count_wrong(Py_ssize_t given, Py_ssize_t low, Py_ssize_t high)
{
    if (given >= low && given <= high)
        return 0;
    PyErr_Format(PyExc_TypeError, "expected %zd to %zd arguments, got %zd", low, high, given);
    return 1;
}

/* All arguments as words; 0 when one is not, with the exception set. */
static int take_words(PyObject *const *args, Py_ssize_t count, uint64_t *words)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        words[i] = PyLong_AsUnsignedLongLong(args[i]);
        if (words[i] == UINT64_MAX && PyErr_Occurred())
            return 0;
    }
    return 1;
}

static int is_out(const char *name, uint64_t value, uint64_t limit)
{
    if (value < limit)
        return 0;
    PyErr_Format(PyExc_IndexError, "%s %llu is out of range, there are %llu", name, (unsigned long long)value,
                 (unsigned long long)limit);
    return 1;
}

static const struct region *open_region(PyObject *self)
{
    Cells *cells = (Cells *)self;
    if (cells->is_open)
        return &cells->region;
    PyErr_SetString(PyExc_ValueError, "the region was released");
    return NULL;
}

static word_t *word_at(const struct region *region, uint64_t offset)
{
    if (offset % 8 == 0 && offset / 8 < region->words_count)
        return region->words + offset / 8;
    PyErr_SetString(PyExc_IndexError, "not the offset of a word of the region");
    return NULL;
}

/* Begin of every method: an open region, the right number of arguments, all of them words. */
#define BEGIN(LOW, HIGH)                                                                                          \
    uint64_t a[HIGH] = {0};                                                                                       \
    const struct region *region = open_region(self);                                                              \
    if (region == NULL || is_count_wrong(count, LOW, HIGH) || !take_words(args, count, a))                        \
        return NULL

/* Single words */

static PyObject *cells_load(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(1, 1);
    const word_t *word = word_at(region, a[0]);
    return word ? PyLong_FromUnsignedLongLong(load_acquire(word)) : NULL;
}

static PyObject *cells_store(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(2, 2);
    word_t *word = word_at(region, a[0]);
    if (word == NULL)
        return NULL;
    store_release(word, a[1]);
    Py_RETURN_NONE;
}

static PyObject *cells_fetch_add(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(2, 2);
    word_t *word = word_at(region, a[0]);
    return word ? PyLong_FromUnsignedLongLong(fetch_add_acq_rel(word, a[1])) : NULL;
}

static PyObject *cells_compare_exchange(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(3, 3);
    word_t *word = word_at(region, a[0]);
    return word ? PyBool_FromLong(compare_exchange_acq_rel(word, &a[1], a[2])) : NULL;
}

static PyObject *cells_publish(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(2, 2);
    word_t *word = word_at(region, a[0]);
    return word ? PyBool_FromLong(kernel_publish(word, a[1])) : NULL;
}

/* What workers do */

static PyObject *cells_record(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(7, 7);
    if (is_out("slot", a[0], region->slots_max) || is_out("series", a[1], region->series_max)
        || is_out("reason", a[3], REASONS_MAX))
        return NULL;
    kernel_record(region, a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    Py_RETURN_NONE;
}

static PyObject *cells_add(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(2, 3);
    if (is_out("slot", a[0], region->slots_max) || is_out("counter", a[1], COUNTERS_MAX))
        return NULL;
    bump_relaxed(slot_of(region, a[0]) + SLOT_COUNTERS + a[1], count == 3 ? a[2] : 1);
    Py_RETURN_NONE;
}

static PyObject *cells_beat(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(4, 4);
    if (is_out("slot", a[0], region->slots_max))
        return NULL;
    kernel_beat(region, a[0], a[1], a[2], a[3]);
    Py_RETURN_NONE;
}

static PyObject *cells_journal_write(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t slot;
    char *record;
    Py_ssize_t length;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 2, 2) || !take_words(args, 1, &slot)
        || is_out("slot", slot, region->slots_max) || PyBytes_AsStringAndSize(args[1], &record, &length) < 0)
        return NULL;
    if (length > JOURNAL_RECORD_BYTES)
        return PyErr_Format(PyExc_ValueError, "a journal record has at most %d octets", JOURNAL_RECORD_BYTES);
    kernel_journal_write(region, slot, (const unsigned char *)record, (uint64_t)length);
    Py_RETURN_NONE;
}

/* What readers do */

static PyObject *cells_journal_read(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    unsigned char record[JOURNAL_RECORD_BYTES];
    BEGIN(2, 2);
    if (is_out("slot", a[0], region->slots_max))
        return NULL;
    int length = kernel_journal_read(region, a[0], a[1], record);
    if (length < 0)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((const char *)record, length);
}

static PyObject *cells_sums(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t total[SERIES_WORDS];
    BEGIN(4, 4);
    const word_t *words = word_at(region, a[0]);
    if (words == NULL)
        return NULL;
    if (a[1] % 8 || a[2] > SLOTS_LIMIT || a[3] > SERIES_WORDS) {
        PyErr_SetString(PyExc_ValueError, "a sum is over at most 256 blocks of a series' size");
        return NULL;
    }
    uint64_t stride = a[1] / 8, room = region->words_count - a[0] / 8;
    /* Divided, not multiplied: the product may not fit in a word. */
    if (a[2] && a[3] && (a[3] > room || (a[2] > 1 && stride > (room - a[3]) / (a[2] - 1)))) {
        PyErr_SetString(PyExc_IndexError, "a sum reaches beyond the region");
        return NULL;
    }
    kernel_sums(words, stride, a[2], a[3], total);
    return PyBytes_FromStringAndSize((const char *)total, (Py_ssize_t)(a[3] * 8));
}

/* Limits */

static int is_time_wrong(uint64_t now)
{
    if (now <= LIMIT_TIME_MAX_NS)
        return 0;
    PyErr_SetString(PyExc_ValueError, "a time is at most 73 years after boot");
    return 1;
}

/* The hash of a key; 0 when it is none, with the exception set. */
static int take_key(const struct region *region, PyObject *key, struct hash *hash)
{
    char *octets;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(key, &octets, &length) < 0)
        return 0;
    if (length > LIMIT_KEY_BYTES_MAX) {
        PyErr_Format(PyExc_ValueError, "a key has at most %d octets", LIMIT_KEY_BYTES_MAX);
        return 0;
    }
    *hash = limits_hash(region, (const unsigned char *)octets, (uint64_t)length);
    return 1;
}

/* What is charged: count of keys, or -1 with the exception set. */
static int take_charge(const struct region *region, PyObject *keys, PyObject *terms, struct hash *hashes,
                       struct term *agreed)
{
    char *octets;
    Py_ssize_t length, count;
    if (!PyTuple_Check(keys) || !PyBytes_Check(terms)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of keys, and bytes of terms");
        return -1;
    }
    count = PyTuple_Size(keys);
    if (PyBytes_AsStringAndSize(terms, &octets, &length) < 0)
        return -1;
    if (count > LIMIT_KEYS_MAX || length != count * (Py_ssize_t)sizeof *agreed) {
        PyErr_Format(PyExc_ValueError, "a charge is of at most %d keys, with three words of terms each",
                     LIMIT_KEYS_MAX);
        return -1;
    }
    memcpy(agreed, octets, (size_t)length);
    for (Py_ssize_t at = 0; at < count; at++) {
        if (!take_key(region, PyTuple_GetItem(keys, at), &hashes[at]))
            return -1;
        if (agreed[at].increment > LIMIT_TERM_MAX_NS || agreed[at].capacity > LIMIT_TERM_MAX_NS) {
            PyErr_SetString(PyExc_ValueError, "an increment or a capacity is out of bounds");
            return -1;
        }
    }
    return (int)count;
}

/* A tuple of two small numbers and some words. */
static PyObject *tuple_of(long first, long second, const uint64_t *words, int count)
{
    PyObject *tuple = PyTuple_New(count + 2);
    if (tuple == NULL)
        return NULL;
    for (int at = 0; at < count + 2; at++) {
        PyObject *number = at < 2 ? PyLong_FromLong(at ? second : first) : PyLong_FromUnsignedLongLong(words[at - 2]);
        if (number == NULL || PyTuple_SetItem(tuple, at, number) < 0) {
            Py_DECREF(tuple);
            return NULL;
        }
    }
    return tuple;
}

static PyObject *charge(PyObject *self, PyObject *const *args, Py_ssize_t count, int is_in_use, int is_marked)
{
    uint64_t a[2], words[(1 + MARK_WORDS) * LIMIT_KEYS_MAX], *tats = words;
    struct hash keys[LIMIT_KEYS_MAX];
    struct term terms[LIMIT_KEYS_MAX];
    int index, keys_count;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 4, 4) || !take_words(args, 2, a))
        return NULL;
    if (!PyTuple_Check(args[2]) || !PyBytes_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of keys, and bytes of terms");
        return NULL;
    }
    if (is_out("slot", a[0], region->slots_max) || is_time_wrong(a[1])
        || (keys_count = take_charge(region, args[2], args[3], keys, terms)) < 0)
        return NULL;
    enum outcome outcome = limits_charge(region, a[0], a[1], keys_count, keys, terms, tats, &index,
                                         is_marked ? words + keys_count : NULL);
    for (int at = 0; at < keys_count && is_in_use; at++)
        tats[at] = tats[at] > a[1] ? tats[at] - a[1] : 0;
    return tuple_of((long)outcome, index, words, is_marked ? (1 + MARK_WORDS) * keys_count : keys_count);
}

static PyObject *cells_charge(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return charge(self, args, count, 0, 0);
}

static PyObject *cells_charge_used(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return charge(self, args, count, 1, 0);
}

static PyObject *cells_charge_marked(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return charge(self, args, count, 1, 1);
}

static PyObject *cells_give_back(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[2], mark[MARK_WORDS], amount;
    PyObject *words[MARK_WORDS];
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 5, 5) || !take_words(args, 2, a) || !take_words(args + 4, 1, &amount))
        return NULL;
    if (!PyTuple_Check(args[3]) || PyTuple_Size(args[3]) != MARK_WORDS) {
        PyErr_SetString(PyExc_TypeError, "a mark is a tuple of three words");
        return NULL;
    }
    for (int at = 0; at < MARK_WORDS; at++)
        words[at] = PyTuple_GetItem(args[3], at);
    if (!take_words(words, MARK_WORDS, mark)
        || is_out("slot", a[0], region->slots_max) || !take_key(region, args[2], &key) || is_time_wrong(a[1]))
        return NULL;
    return PyLong_FromUnsignedLongLong(limits_give_back_later(region, a[1], key, mark, amount));
}

static PyObject *cells_take_more(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[2], amount;
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 4, 4) || !take_words(args, 2, a) || !take_words(args + 3, 1, &amount)
        || is_out("slot", a[0], region->slots_max))
        return NULL;
    if (amount > LIMIT_TERM_MAX_NS) {
        PyErr_SetString(PyExc_ValueError, "an amount is out of bounds");
        return NULL;
    }
    if (!take_key(region, args[2], &key) || is_time_wrong(a[1]))
        return NULL;
    return PyLong_FromUnsignedLongLong(limits_take_more(region, a[0], a[1], key, amount));
}

static PyObject *cells_peek(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t now;
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 2, 2) || !take_words(args, 1, &now)
        || !take_key(region, args[1], &key) || is_time_wrong(now))
        return NULL;
    return PyLong_FromUnsignedLongLong(limits_peek(region, now, key));
}

static PyObject *cells_reset(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t now;
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 2, 2) || !take_words(args, 1, &now)
        || !take_key(region, args[1], &key) || is_time_wrong(now))
        return NULL;
    return PyBool_FromLong(limits_reset(region, now, key));
}

/* The view of the leases; what is checked of a region is the same in both. */
static const struct region *leases_of(PyObject *self)
{
    return &((Cells *)self)->leases;
}

static PyObject *cells_hold(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[4], words[2] = {0, 0};
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 4, 4) || !take_words(args, 2, a) || !take_words(args + 3, 1, a + 3)
        || is_out("slot", a[0], region->slots_max) || is_time_wrong(a[1]) || !take_key(region, args[2], &key))
        return NULL;
    enum outcome outcome = leases_hold(leases_of(self), a[0], a[1], key, a[3], &words[0], &words[1]);
    return Py_BuildValue("(iKK)", (int)outcome, (unsigned long long)words[0], (unsigned long long)words[1]);
}

static PyObject *cells_release_lease(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(2, 2);
    if (is_out("slot", a[0], region->slots_max) || is_out("lease", a[1], leases_of(self)->limits_mask + 1))
        return NULL;
    leases_release(leases_of(self), a[0], a[1]);
    Py_RETURN_NONE;
}

static PyObject *cells_held(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 1, 1) || !take_key(region, args[0], &key))
        return NULL;
    return PyLong_FromUnsignedLongLong(leases_peek(leases_of(self), key));
}

static PyObject *cells_leases_reap(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(1, 1);
    if (is_out("slot", a[0], region->slots_max))
        return NULL;
    leases_reap(leases_of(self), a[0]);
    Py_RETURN_NONE;
}

static PyObject *cells_leases_statistics(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t counts[4];
    const struct region *region = open_region(self);
    (void)args;
    if (region == NULL || is_count_wrong(count, 0, 0))
        return NULL;
    leases_statistics(leases_of(self), counts);
    return Py_BuildValue("(KKKK)", (unsigned long long)counts[0], (unsigned long long)counts[1],
                         (unsigned long long)counts[2], (unsigned long long)counts[3]);
}

/* The view of the budgets. */
static const struct region *budgets_of(PyObject *self)
{
    return &((Cells *)self)->budgets;
}

static int is_amount_wrong(uint64_t amount)
{
    if (amount <= BUDGET_AMOUNT_MAX)
        return 0;
    PyErr_SetString(PyExc_ValueError, "an amount or a limit is out of bounds");
    return 1;
}

/* A budget's key, whose octets are borrowed. */
static int take_budget_key(const struct region *region, PyObject *octets, struct budget_key *key)
{
    char *text;
    Py_ssize_t length;
    if (!take_key(region, octets, &key->hash) || PyBytes_AsStringAndSize(octets, &text, &length) < 0)
        return 0;
    key->text = (const unsigned char *)text;
    key->length = (uint64_t)length;
    return 1;
}

static PyObject *cells_reserve(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[2], words[2 * LIMIT_KEYS_MAX], leases[LIMIT_KEYS_MAX];
    struct budget_key keys[LIMIT_KEYS_MAX];
    struct budget_term terms[LIMIT_KEYS_MAX];
    char *octets;
    Py_ssize_t length, keys_count;
    int index;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 4, 4) || !take_words(args, 2, a))
        return NULL;
    if (!PyTuple_Check(args[2]) || !PyBytes_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of keys, and bytes of terms");
        return NULL;
    }
    keys_count = PyTuple_Size(args[2]);
    if (is_out("slot", a[0], region->slots_max) || is_time_wrong(a[1])
        || PyBytes_AsStringAndSize(args[3], &octets, &length) < 0)
        return NULL;
    if (keys_count > LIMIT_KEYS_MAX || length != keys_count * (Py_ssize_t)sizeof *terms) {
        PyErr_Format(PyExc_ValueError, "a reservation is of at most %d keys, with four words of terms each",
                     LIMIT_KEYS_MAX);
        return NULL;
    }
    memcpy(terms, octets, (size_t)length);
    for (Py_ssize_t at = 0; at < keys_count; at++) {
        if (!take_budget_key(region, PyTuple_GetItem(args[2], at), &keys[at]))
            return NULL;
        if (terms[at].until > LIMIT_TIME_MAX_NS || terms[at].amount > BUDGET_AMOUNT_MAX
            || terms[at].limit > BUDGET_AMOUNT_MAX) {
            PyErr_SetString(PyExc_ValueError, "a time, an amount or a limit is out of bounds");
            return NULL;
        }
    }
    enum outcome outcome = budgets_reserve(budgets_of(self), a[0], a[1], (int)keys_count, keys, terms, words, leases,
                                           &index);
    for (Py_ssize_t at = 0; at < keys_count; at++)
        words[keys_count + at] = leases[at];
    return tuple_of((long)outcome, index, words, (int)keys_count * 2);
}

static PyObject *cells_extend(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t used;
    BEGIN(4, 4);
    if (is_out("slot", a[0], region->slots_max) || is_amount_wrong(a[2]) || is_amount_wrong(a[3]))
        return NULL;
    enum outcome outcome = budgets_extend(budgets_of(self), a[0], a[1], a[2], a[3], &used);
    return Py_BuildValue("(iK)", (int)outcome, (unsigned long long)used);
}

static PyObject *cells_settle(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[5] = {0};
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 5, 5) || !take_words(args, 2, a))
        return NULL;
    long long spent = PyLong_AsLongLong(args[2]);
    if (spent == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return NULL;
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError, "an amount is out of bounds");
        return NULL;
    }
    if (spent > (long long)BUDGET_AMOUNT_MAX || spent < -(long long)BUDGET_AMOUNT_MAX) {
        PyErr_SetString(PyExc_ValueError, "an amount is out of bounds");
        return NULL;
    }
    if (!take_words(args + 3, 2, a + 3) || is_out("slot", a[0], region->slots_max))
        return NULL;
    if (a[3] > BUDGET_AMOUNT_MAX) {
        PyErr_SetString(PyExc_ValueError, "an amount is out of bounds");
        return NULL;
    }
    return PyBool_FromLong(budgets_settle(budgets_of(self), a[0], a[1], (uint64_t)spent, a[3], a[4] != 0));
}

static PyObject *cells_carry(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[6] = {0};
    struct budget_key key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 6, 6) || !take_words(args, 2, a) || !take_words(args + 3, 3, a + 3)
        || is_out("slot", a[0], region->slots_max) || is_time_wrong(a[1]) || is_time_wrong(a[3])
        || is_amount_wrong(a[4]) || is_amount_wrong(a[5]) || !take_budget_key(region, args[2], &key))
        return NULL;
    return PyBool_FromLong(budgets_carry(budgets_of(self), a[0], a[1], &key, a[3], a[4], a[5]));
}

static PyObject *cells_spent(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct hash key;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 1, 1) || !take_key(region, args[0], &key))
        return NULL;
    /* Who reserves in one window and then looks at others must not have looked before he reserved: of two who do so in
     * different windows one sees the other's. No swap of a common word orders them, so it takes a fence. */
    atomic_thread_fence(memory_order_seq_cst);
    struct spent sums = budgets_spent(budgets_of(self), key);
    return Py_BuildValue("(KKK)", (unsigned long long)sums.settled, (unsigned long long)sums.open,
                         (unsigned long long)sums.requests);
}

static PyObject *cells_budgets_reap(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(1, 1);
    if (is_out("slot", a[0], region->slots_max))
        return NULL;
    leases_reap(budgets_of(self), a[0]);
    Py_RETURN_NONE;
}

static PyObject *cells_budgets_statistics(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t counts[4];
    const struct region *region = open_region(self);
    (void)args;
    if (region == NULL || is_count_wrong(count, 0, 0))
        return NULL;
    leases_statistics(budgets_of(self), counts);
    return Py_BuildValue("(KKKK)", (unsigned long long)counts[0], (unsigned long long)counts[1],
                         (unsigned long long)counts[2], (unsigned long long)counts[3]);
}

static PyObject *cells_limits_reap(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(1, 1);
    if (is_out("slot", a[0], region->slots_max))
        return NULL;
    limits_reap(region, a[0]);
    Py_RETURN_NONE;
}

static PyObject *cells_limits_statistics(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t counts[4];
    Py_buffer held;
    BEGIN(1, 1);
    /* Held a second time: another thread may release these cells meanwhile, and the memory must stay. */
    struct region mine = *region;
    if (PyObject_GetBuffer(((Cells *)self)->view.obj, &held, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    limits_statistics(&mine, a[0], counts);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&held);
    return Py_BuildValue("(KKKK)", (unsigned long long)counts[0], (unsigned long long)counts[1],
                         (unsigned long long)counts[2], (unsigned long long)counts[3]);
}

/* Places */

#define PLACES_AT_ONCE_MAX 4096
#define TERM_MAX ((UINT64_C(1) << 40) - 1)

static int is_place_wrong(const struct region *region, uint64_t slot, uint64_t endpoint, uint64_t upstream)
{
    return is_out("slot", slot, region->slots_max) || is_out("place", endpoint, region->places_max)
           || is_out("place", upstream, region->places_max);
}

static int take_terms(PyObject *octets, struct place_terms *terms)
{
    char *given;
    Py_ssize_t length;
    uint64_t words[PLACE_TERM_WORDS];
    if (PyBytes_AsStringAndSize(octets, &given, &length) < 0)
        return 0;
    if (length != (Py_ssize_t)sizeof *terms) {
        PyErr_Format(PyExc_ValueError, "the terms of an upstream are %d words", PLACE_TERM_WORDS);
        return 0;
    }
    memcpy(words, given, sizeof words);
    for (int at = 0; at < PLACE_TERM_WORDS; at++) {
        if (words[at] > TERM_MAX) {
            PyErr_SetString(PyExc_ValueError, "a term is out of bounds");
            return 0;
        }
    }
    memcpy(terms, words, sizeof *terms);
    return 1;
}

static PyObject *cells_begin(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[4];
    struct place_terms terms;
    struct permit permit;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 5, 5) || !take_words(args, 4, a)
        || is_place_wrong(region, a[0], a[1], a[2]) || is_time_wrong(a[3]) || !take_terms(args[4], &terms))
        return NULL;
    int refusal = places_begin(region, a[0], a[1], a[2], a[3] / 1000000, &terms, &permit);
    if (refusal || !(permit.endpoint | permit.upstream))
        return PyLong_FromLong(-refusal);
    return Py_BuildValue("(KK)", (unsigned long long)permit.endpoint, (unsigned long long)permit.upstream);
}

/* A permit as `begin` gave it: 0, or two rounds. */
static int take_permit(PyObject *given, struct permit *permit)
{
    uint64_t rounds[2] = {0};
    if (PyTuple_Check(given)) {
        PyObject *two[2];
        if (PyTuple_Size(given) != 2) {
            PyErr_SetString(PyExc_ValueError, "a permit is 0 or two rounds");
            return 0;
        }
        two[0] = PyTuple_GetItem(given, 0);
        two[1] = PyTuple_GetItem(given, 1);
        if (!take_words(two, 2, rounds))
            return 0;
    } else if (!take_words(&given, 1, rounds)) {
        return 0;
    } else if (rounds[0]) {
        PyErr_SetString(PyExc_ValueError, "a permit is 0 or two rounds");
        return 0;
    }
    *permit = (struct permit){rounds[0], rounds[1]};
    return 1;
}

static PyObject *cells_finish(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[4], b[2];
    struct place_terms terms;
    struct permit permit;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 8, 8) || !take_words(args, 4, a)
        || is_place_wrong(region, a[0], a[1], a[2]) || is_time_wrong(a[3]) || !take_permit(args[4], &permit)
        || !take_words(args + 5, 2, b) || !take_terms(args[7], &terms))
        return NULL;
    return PyLong_FromLong(places_finish(region, a[0], a[1], a[2], a[3] / 1000000, permit, b[0], b[1] / 1000, &terms));
}

/* An array of places, native 32 bits each: how many, or -1 with the exception set. */
static Py_ssize_t take_places(const struct region *region, PyObject *octets, const uint32_t **places)
{
    char *given;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(octets, &given, &length) < 0)
        return -1;
    if (length % 4 || length / 4 > PLACES_AT_ONCE_MAX || (uintptr_t)given % 4) {
        PyErr_Format(PyExc_ValueError, "expected at most %d numbers of 32 bits", PLACES_AT_ONCE_MAX);
        return -1;
    }
    *places = (const uint32_t *)(const void *)given;
    for (Py_ssize_t at = 0; at < length / 4; at++)
        if (is_out("place", (*places)[at], region->places_max))
            return -1;
    return length / 4;
}

static PyObject *cells_standing(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[2];
    const uint32_t *places;
    unsigned char found[PLACES_AT_ONCE_MAX];
    Py_ssize_t places_count;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 3, 3) || !take_words(args + 1, 2, a) || is_time_wrong(a[0])
        || (places_count = take_places(region, args[0], &places)) < 0)
        return NULL;
    for (Py_ssize_t at = 0; at < places_count; at++)
        found[at] = place_standing(region, places[at], a[0] / 1000000, a[1]);
    return PyBytes_FromStringAndSize((const char *)found, places_count);
}

static PyObject *cells_flights(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const uint32_t *places;
    Py_ssize_t places_count;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 1, 1) || (places_count = take_places(region, args[0], &places)) < 0)
        return NULL;
    PyObject *tuple = PyTuple_New(places_count);
    uint64_t used = slots_in_use(region);
    for (Py_ssize_t at = 0; tuple != NULL && at < places_count; at++) {
        PyObject *number = PyLong_FromUnsignedLongLong(flights_of(region, places[at], used));
        if (number == NULL || PyTuple_SetItem(tuple, at, number) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *cells_ewmas(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[2];
    const uint32_t *places;
    Py_ssize_t places_count;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 3, 3) || !take_words(args + 1, 2, a) || is_time_wrong(a[0])
        || (places_count = take_places(region, args[0], &places)) < 0)
        return NULL;
    PyObject *tuple = PyTuple_New(places_count);
    for (Py_ssize_t at = 0; tuple != NULL && at < places_count; at++) {
        uint64_t word = load_relaxed(place_of(region, places[at]) + PLACE_EWMA);
        PyObject *number = PyLong_FromUnsignedLongLong(
            decayed(word & QUANTITY_MAX, passed_since(word, a[0] / 1000000), a[1] / 1000000));
        if (number == NULL || PyTuple_SetItem(tuple, at, number) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *cells_least(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t start;
    const uint32_t *places;
    char *weights, *allowed;
    Py_ssize_t places_count, weights_length, allowed_length;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 4, 4) || (places_count = take_places(region, args[0], &places)) < 0
        || PyBytes_AsStringAndSize(args[1], &weights, &weights_length) < 0
        || PyBytes_AsStringAndSize(args[2], &allowed, &allowed_length) < 0 || !take_words(args + 3, 1, &start))
        return NULL;
    if (weights_length != places_count * 4 || allowed_length != places_count || (uintptr_t)weights % 4) {
        PyErr_SetString(PyExc_ValueError, "each place has a weight, and is allowed or not");
        return NULL;
    }
    return PyLong_FromLongLong(places_least(region, places, (const uint32_t *)(const void *)weights,
                                            (const unsigned char *)allowed, (uint64_t)places_count,
                                            places_count ? start % (uint64_t)places_count : 0));
}

static PyObject *cells_observe(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(4, 4);
    if (is_out("place", a[0], region->places_max) || is_time_wrong(a[1]))
        return NULL;
    ewma_observe(place_of(region, a[0]), a[1] / 1000000, a[2] / 1000, a[3] / 1000000);
    Py_RETURN_NONE;
}

static PyObject *cells_lightest(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[2];
    const uint32_t *places;
    char *weights, *allowed;
    Py_ssize_t places_count, weights_length, allowed_length;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 5, 5) || (places_count = take_places(region, args[0], &places)) < 0
        || PyBytes_AsStringAndSize(args[1], &weights, &weights_length) < 0
        || PyBytes_AsStringAndSize(args[2], &allowed, &allowed_length) < 0 || !take_words(args + 3, 2, a)
        || is_out("tokens", a[1], UINT64_C(1) + BURDEN_MAX))
        return NULL;
    if (weights_length != places_count * 4 || allowed_length != places_count || (uintptr_t)weights % 4) {
        PyErr_SetString(PyExc_ValueError, "each place has a weight, and is allowed or not");
        return NULL;
    }
    return PyLong_FromLongLong(places_lightest(region, places, (const uint32_t *)(const void *)weights,
                                               (const unsigned char *)allowed, (uint64_t)places_count,
                                               places_count ? a[0] % (uint64_t)places_count : 0, a[1]));
}

static PyObject *cells_burden(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(4, 4);
    if (is_place_wrong(region, a[0], a[1], a[1]) || is_out("tokens", a[2], UINT64_C(1) + BURDEN_MAX)
        || is_out("tokens", a[3], UINT64_C(1) + BURDEN_MAX))
        return NULL;
    burden_change(region, a[0], a[1], a[2], a[3]);
    Py_RETURN_NONE;
}

static PyObject *cells_burdens(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const uint32_t *places;
    Py_ssize_t places_count;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 1, 1) || (places_count = take_places(region, args[0], &places)) < 0)
        return NULL;
    PyObject *tuple = PyTuple_New(places_count);
    uint64_t used = slots_in_use(region);
    for (Py_ssize_t at = 0; tuple != NULL && at < places_count; at++) {
        PyObject *number = PyLong_FromUnsignedLongLong(burdens_of(region, places[at], used));
        if (number == NULL || PyTuple_SetItem(tuple, at, number) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *cells_pick(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t a[3];
    const uint32_t *places;
    unsigned char allowed[PLACES_AT_ONCE_MAX];
    char *weights;
    Py_ssize_t places_count, weights_length;
    const struct region *region = open_region(self);
    if (region == NULL || is_count_wrong(count, 5, 5) || (places_count = take_places(region, args[0], &places)) < 0
        || PyBytes_AsStringAndSize(args[1], &weights, &weights_length) < 0 || !take_words(args + 2, 3, a)
        || is_time_wrong(a[0]))
        return NULL;
    if (weights_length != places_count * 4 || (uintptr_t)weights % 4) {
        PyErr_SetString(PyExc_ValueError, "each place has a weight");
        return NULL;
    }
    for (Py_ssize_t at = 0; at < places_count; at++)
        if (place_standing(region, places[at], a[0] / 1000000, a[1]) != STANDING_USABLE)
            return PyLong_FromLong(-1);
    memset(allowed, 1, (size_t)places_count);
    return PyLong_FromLongLong(places_least(region, places, (const uint32_t *)(const void *)weights, allowed,
                                            (uint64_t)places_count, places_count ? a[2] % (uint64_t)places_count : 0));
}

static PyObject *cells_spend(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(3, 3);
    if (is_out("place", a[0], region->places_max) || is_time_wrong(a[1]) || is_out("rate", a[2], TERM_MAX))
        return NULL;
    return PyBool_FromLong(budget_spend(place_of(region, a[0]), a[1] / 1000000, a[2]));
}

static PyObject *cells_lead(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(4, 4);
    if (is_out("slot", a[0], region->slots_max) || is_time_wrong(a[2]) || is_time_wrong(a[3]))
        return NULL;
    return PyBool_FromLong(places_lead(region, a[0], a[1], a[2] / 1000000, a[3] / 1000000));
}

static PyObject *cells_toll(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(3, 4);
    if (is_place_wrong(region, a[0], a[1], a[1]) || is_out("counter", a[2], TOLL_WORDS))
        return NULL;
    bump_relaxed(toll_of(region, a[0], a[1]) + a[2], count == 4 ? a[3] : 1);
    Py_RETURN_NONE;
}

static PyObject *cells_places_reap(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    BEGIN(1, 1);
    if (is_out("slot", a[0], region->slots_max))
        return NULL;
    places_reap(region, a[0]);
    Py_RETURN_NONE;
}

/* Making and ending */

/* Whether a table of `count` blocks, `stride` octets apart, the last of `size` octets, lies inside. */
static int is_inside(uint64_t bytes, uint64_t offset, uint64_t count, uint64_t stride, uint64_t size)
{
    if (offset % 8 || stride % 8 || offset > bytes || size > bytes - offset)
        return 0;
    return count < 2 || stride <= (bytes - offset - size) / (count - 1);
}

static uint64_t guards_of(uint64_t entries)
{
    return entries / LIMIT_STRIPE > LIMIT_GUARDS_MIN ? entries / LIMIT_STRIPE : LIMIT_GUARDS_MIN;
}

/* The sizes and places of the tables, in the order of shm.cells.open_cells. */
#define NUMBERS 28

static int fill_region(struct region *region, struct region *leases, struct region *budgets, uint64_t bytes,
                       const uint64_t *a)
{
    uint64_t guards_max = guards_of(a[8]), lease_guards = guards_of(a[17]), budget_guards = guards_of(a[22]);
    if (bytes % 8) {
        PyErr_SetString(PyExc_ValueError, "the region is not whole words");
        return 0;
    }
    if (a[0] < 1 || a[0] > SLOTS_LIMIT || a[1] < 1 || a[1] > SERIES_LIMIT || a[2] < 1 || a[2] > JOURNAL_LIMIT
        || a[8] < LIMITS_MIN || a[8] > LIMITS_LIMIT || a[8] & (a[8] - 1) || a[11] < 1 || a[11] > PLACES_LIMIT
        || a[17] < LIMITS_MIN || a[17] > LEASES_LIMIT || a[17] & (a[17] - 1)
        || a[22] < LIMITS_MIN || a[22] > BUDGETS_LIMIT || a[22] & (a[22] - 1)) {
        PyErr_SetString(PyExc_ValueError, "a table's size is out of bounds");
        return 0;
    }
    if (!is_inside(bytes, a[3], 1, 0, a[0] * SLOT_WORDS * 8)
        || !is_inside(bytes, a[4], a[0], a[5], a[2] * CELL_WORDS * 8)
        || !is_inside(bytes, a[6], a[0], a[7], a[1] * SERIES_WORDS * 8)
        || !is_inside(bytes, a[9], 1, 0, a[8] * (LIMIT_WORDS + SHIFT_WORDS) * 8)
        || !is_inside(bytes, a[10], 1, 0, guards_max * 8)
        || !is_inside(bytes, a[12], 1, 0, a[11] * PLACE_WORDS * 8)
        || !is_inside(bytes, a[13], a[0], a[14], 2 * a[11] * 8)
        || !is_inside(bytes, a[15], a[0], a[16], a[11] * TOLL_WORDS * 8)
        || !is_inside(bytes, a[18], 1, 0, a[17] * LIMIT_WORDS * 8)
        || !is_inside(bytes, a[19], 1, 0, lease_guards * 8) || !is_inside(bytes, a[20], a[0], a[21], a[17] * 8)
        || !is_inside(bytes, a[23], 1, 0, a[22] * LIMIT_WORDS * 8)
        || !is_inside(bytes, a[24], 1, 0, budget_guards * 8) || !is_inside(bytes, a[25], 1, 0, a[22] * TITLE_WORDS * 8)
        || !is_inside(bytes, a[26], a[0], a[27], a[22] * SPENDING_WORDS * 8)) {
        PyErr_SetString(PyExc_ValueError, "a table does not fit in the region");
        return 0;
    }
    *region = (struct region){
        .words_count = bytes / 8, .slots_max = a[0], .series_max = a[1], .journal_records = a[2],
        .slots = a[3] / 8, .rings = a[4] / 8, .ring_stride = a[5] / 8, .counters = a[6] / 8,
        .counters_stride = a[7] / 8, .limits = a[9] / 8, .limits_mask = a[8] - 1, .guards = a[10] / 8,
        .guards_mask = guards_max - 1, .stripe = a[8] / guards_max, .places_max = a[11], .places = a[12] / 8,
        .flights = a[13] / 8, .flights_stride = a[14] / 8, .tolls = a[15] / 8, .tolls_stride = a[16] / 8,
    };
    *leases = *region;
    leases->limits = a[18] / 8;
    leases->limits_mask = a[17] - 1;
    leases->guards = a[19] / 8;
    leases->guards_mask = lease_guards - 1;
    leases->stripe = a[17] / lease_guards;
    leases->holdings = a[20] / 8;
    leases->holdings_stride = a[21] / 8;
    leases->holding_words = 1;
    *budgets = *region;
    budgets->limits = a[23] / 8;
    budgets->limits_mask = a[22] - 1;
    budgets->guards = a[24] / 8;
    budgets->guards_mask = budget_guards - 1;
    budgets->stripe = a[22] / budget_guards;
    budgets->titles = a[25] / 8;
    budgets->holdings = a[26] / 8;
    budgets->holdings_stride = a[27] / 8;
    budgets->holding_words = SPENDING_WORDS;
    return 1;
}

static PyObject *cells_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *memory, *numbers[NUMBERS];
    uint64_t a[NUMBERS];
    if (keywords != NULL && PyDict_Size(keywords) > 0) {
        PyErr_SetString(PyExc_TypeError, "Cells takes no keyword arguments");
        return NULL;
    }
    if (is_count_wrong(PyTuple_Size(args), NUMBERS + 1, NUMBERS + 1))
        return NULL;
    memory = PyTuple_GetItem(args, 0);
    for (int at = 0; at < NUMBERS; at++)
        numbers[at] = PyTuple_GetItem(args, at + 1);
    if (!take_words(numbers, NUMBERS, a))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Cells *self = (Cells *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    if (PyObject_GetBuffer(memory, &self->view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->is_open = 1;
    if ((uintptr_t)self->view.buf % 8) {
        PyErr_SetString(PyExc_ValueError, "the region does not begin on a word");
        Py_DECREF(self);
        return NULL;
    }
    if (!fill_region(&self->region, &self->leases, &self->budgets, (uint64_t)self->view.len, a)) {
        Py_DECREF(self);
        return NULL;
    }
    self->region.words = self->leases.words = self->budgets.words = self->view.buf;
    return (PyObject *)self;
}

static PyObject *cells_release(PyObject *self, PyObject *unused)
{
    Cells *cells = (Cells *)self;
    (void)unused;
    if (cells->is_open) {
        cells->is_open = 0;
        PyBuffer_Release(&cells->view);
    }
    Py_RETURN_NONE;
}

static void cells_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Cells *cells = (Cells *)self;
    if (cells->is_open)
        PyBuffer_Release(&cells->view);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

#define FAST(NAME) {#NAME, (PyCFunction)(void (*)(void))cells_##NAME, METH_FASTCALL, NULL}

static PyMethodDef methods[] = {
    FAST(load), FAST(store), FAST(fetch_add), FAST(compare_exchange), FAST(publish), FAST(record), FAST(add),
    FAST(beat), FAST(journal_write), FAST(journal_read), FAST(sums), FAST(charge), FAST(charge_used), FAST(peek),
    FAST(charge_marked), FAST(give_back), FAST(take_more),
    FAST(reset),
    FAST(limits_reap), FAST(limits_statistics), FAST(begin), FAST(finish), FAST(standing), FAST(flights), FAST(ewmas),
    FAST(least), FAST(observe), FAST(lightest), FAST(burden), FAST(burdens), FAST(pick), FAST(spend), FAST(lead), FAST(toll), FAST(places_reap), FAST(hold), FAST(held),
    FAST(leases_reap), FAST(leases_statistics), FAST(release_lease), FAST(reserve), FAST(extend), FAST(settle),
    FAST(carry), FAST(spent), FAST(budgets_reap), FAST(budgets_statistics),
    {"release", cells_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Operations on one region; see shm.cells.Cells."},
    {Py_tp_new, cells_new},
    {Py_tp_dealloc, cells_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "shm._native.cells.Cells",
    .basicsize = sizeof(Cells),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type == NULL)
        return -1;
    int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shm._native.cells",
    .m_doc = "Atomic words of shared memory; the twin is shm.twin.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_cells(void);
PyMODINIT_FUNC PyInit_cells(void)
{
    return PyModuleDef_Init(&module);
}
