/* Classes of octets, and how far a run of one class goes. No Python here, no allocation, no state.
 *
 * Every function takes the place where the input ends and reads no octet there or beyond: the eight octets
 * that are looked at together are only loaded when eight are left. A test puts the end of the input against
 * a protected page, and another runs all of this under the address sanitizer.
 *
 * Eight at a time: a word is scanned for octets below a bound, or equal to one, by the borrow that a
 * subtraction leaves in their top bits. A borrow may spoil the octets above the first hit, so only the
 * first hit is believed.
 */
#ifndef SENTINEL_SCAN_H
#define SENTINEL_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ONES UINT64_C(0x0101010101010101)
#define TOPS UINT64_C(0x8080808080808080)

/* The lower case of each octet that a token may contain, 0 for all others (RFC 9110 section 5.6.2). */
static const uint8_t token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7',
    ['8'] = '8', ['9'] = '9',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',
    ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h',
    ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',
    ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z',
};

static inline int is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static inline int is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* What an authority may contain besides letters and digits. The core judges it in full; this keeps out what
 * could make it a part of something else. */
static inline int is_host(uint8_t c)
{
    uint8_t lower = token_lower[c];
    if (lower != 0)
        return c != '#' && c != '^' && c != '`' && c != '|';
    return c == '(' || c == ')' || c == ';' || c == '=' || c == ':' || c == '[' || c == ']';
}

static inline uint64_t load_eight(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline uint64_t below(uint64_t word, uint8_t bound)
{
    return (word - ONES * bound) & ~word & TOPS;
}

static inline uint64_t equal(uint64_t word, uint8_t octet)
{
    return below(word ^ (ONES * octet), 1);
}

/* How many octets stand before the first hit; 0 where the order of octets does not allow to say. */
static inline size_t before_hit(uint64_t hits)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (size_t)__builtin_ctzll(hits) / 8;
#else
    (void)hits;
    return 0;
#endif
}

/* The first octet of [p, end) that no value may contain: a control other than HTAB, or DEL. */
static inline const uint8_t *text_end(const uint8_t *p, const uint8_t *end)
{
    for (;;) {
        if (end - p >= 8) {
            uint64_t word = load_eight(p);
            uint64_t hits = below(word, 0x20) | equal(word, 0x7f);
            if (hits == 0) {
                p += 8;
                continue;
            }
            p += before_hit(hits);
        }
        if (p == end || (*p < 0x20 && *p != '\t') || *p == 0x7f)
            return p;
        p++;
    }
}

/* The first octet of [p, end) that is not visible ASCII. */
static inline const uint8_t *visible_end(const uint8_t *p, const uint8_t *end)
{
    for (;;) {
        if (end - p >= 8) {
            uint64_t word = load_eight(p);
            uint64_t hits = below(word, 0x21) | equal(word, 0x7f) | (word & TOPS);
            if (hits == 0) {
                p += 8;
                continue;
            }
            p += before_hit(hits);
        }
        if (p == end || *p < 0x21 || *p > 0x7e)
            return p;
        p++;
    }
}

/* The first octet of [p, end) that no method may contain; p itself if there is no letter. */
static inline const uint8_t *method_end(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *start = p;
    while (p < end && ((*p >= 'A' && *p <= 'Z') || (p > start && (is_digit(*p) || *p == '-' || *p == '_'))))
        p++;
    return p;
}

/* The first octet of [p, end) that no token may contain. */
static inline const uint8_t *token_end(const uint8_t *p, const uint8_t *end)
{
    while (p < end && token_lower[*p] != 0)
        p++;
    return p;
}

/* Is [p, p + size) this text, whatever the case of its letters? `text` is in lower case and of token octets. */
static inline int is_text(const uint8_t *p, size_t size, const char *text, size_t text_size)
{
    if (size != text_size)
        return 0;
    for (size_t i = 0; i < size; i++)
        if (token_lower[p[i]] != (uint8_t)text[i])
            return 0;
    return 1;
}

#define IS(p, size, literal) is_text(p, size, literal, sizeof(literal) - 1)

/* Are [p, end) whole header lines, `name: value CRLF` each, and nothing else? */
static inline int are_lines(const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        const uint8_t *name = token_end(p, end);
        if (name == p || name == end || *name != ':')
            return 0;
        const uint8_t *value = text_end(name + 1, end);
        if (end - value < 2 || value[0] != '\r' || value[1] != '\n')
            return 0;
        p = value + 2;
    }
    return 1;
}

#endif
