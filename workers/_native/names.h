/* The names that the codec knows, in a table that is filled once from workers/http1/names.py.
 *
 * A look-up hashes length, first, middle and last letter, and compares the whole name: the hash only says
 * where to look. Probing ends at the first empty place; the table is never more than half full.
 */
#ifndef SENTINEL_NAMES_H
#define SENTINEL_NAMES_H

#include "scan.h"

/* The numbers of workers.http1.names.Role. */
enum role { PLAIN, GUARDED, HOST, LENGTH, CODING, CONNECTION, UPGRADE, EXPECT, TRAILER, HOP, ROLES };

enum { NAMES_MAX = 256, PLACES = 1024, NAME_BYTES_MAX = 48, UNKNOWN = 0xffff };

_Static_assert(NAMES_MAX * 2 <= PLACES, "probing ends because at least half of the places are empty");

struct name {
    uint8_t size;
    uint8_t role;
    uint8_t text[NAME_BYTES_MAX];
};

struct names {
    uint16_t count;
    struct name known[NAMES_MAX];
    uint16_t places[PLACES]; /* number of a name, plus one; 0 is empty */
};

static inline size_t place_of(const uint8_t *lower, size_t size)
{
    return (size * 67 + lower[0] * 5 + lower[size - 1] * 31 + lower[size / 2] * 149) % PLACES;
}

/* The number of this name, or UNKNOWN; `lower` is its lower case, of at least one octet. */
static inline uint16_t find_name(const struct names *names, const uint8_t *lower, size_t size)
{
    if (size > NAME_BYTES_MAX)
        return UNKNOWN;
    for (size_t place = place_of(lower, size); names->places[place] != 0; place = (place + 1) % PLACES) {
        const struct name *name = &names->known[names->places[place] - 1];
        if (name->size == size && memcmp(name->text, lower, size) == 0)
            return (uint16_t)(names->places[place] - 1);
    }
    return UNKNOWN;
}

/* Add one; -1 when the table, or the name, is too large. */
static inline int add_name(struct names *names, const uint8_t *lower, size_t size, uint8_t role)
{
    if (names->count == NAMES_MAX || size == 0 || size > NAME_BYTES_MAX || role >= ROLES)
        return -1;
    struct name *name = &names->known[names->count++];
    name->size = (uint8_t)size;
    name->role = role;
    memcpy(name->text, lower, size);
    size_t place = place_of(lower, size);
    while (names->places[place] != 0)
        place = (place + 1) % PLACES;
    names->places[place] = names->count;
    return 0;
}

/* The role of a name that is not known: with an underscore it may be the alias of one that is. */
static inline uint8_t role_of_unknown(const struct names *names, const uint8_t *lower, size_t size)
{
    uint8_t dashed[NAME_BYTES_MAX];
    if (size > NAME_BYTES_MAX || memchr(lower, '_', size) == NULL)
        return PLAIN;
    for (size_t i = 0; i < size; i++)
        dashed[i] = lower[i] == '_' ? '-' : lower[i];
    uint16_t known = find_name(names, dashed, size);
    return known != UNKNOWN && names->known[known].role != PLAIN ? HOP : PLAIN;
}

#endif
