/* SipHash-2-4 with an output of 128 bits (Aumasson and Bernstein, 2012). The twin is shm/siphash.py.
 *
 * Octets are taken as little-endian whatever the machine is, so that the published vectors hold everywhere.
 */
#ifndef SENTINEL_SIPHASH_H
#define SENTINEL_SIPHASH_H

#include <stdint.h>
#include <string.h>

struct hash {
    uint64_t low, high;
};

struct sip {
    uint64_t a, b, c, d;
};

static inline uint64_t rotated(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
    s->a += s->b;
    s->c += s->d;
    s->b = rotated(s->b, 13) ^ s->a;
    s->d = rotated(s->d, 16) ^ s->c;
    s->a = rotated(s->a, 32);
    s->c += s->b;
    s->a += s->d;
    s->b = rotated(s->b, 17) ^ s->c;
    s->d = rotated(s->d, 21) ^ s->a;
    s->c = rotated(s->c, 32);
}

static inline void sip_absorb(struct sip *s, uint64_t word)
{
    s->d ^= word;
    sip_round(s);
    sip_round(s);
    s->a ^= word;
}

static inline uint64_t sip_squeeze(struct sip *s)
{
    for (int i = 0; i < 4; i++)
        sip_round(s);
    return s->a ^ s->b ^ s->c ^ s->d;
}

static inline struct hash siphash_128(uint64_t secret_low, uint64_t secret_high, const unsigned char *text,
                                      uint64_t length)
{
    /* The constants of the paper; 0xee, 0xdd and the two squeezes are its form for 128 bits. */
    struct sip s = {
        secret_low ^ UINT64_C(0x736f6d6570736575), secret_high ^ UINT64_C(0x646f72616e646f6d) ^ 0xee,
        secret_low ^ UINT64_C(0x6c7967656e657261), secret_high ^ UINT64_C(0x7465646279746573),
    };
    struct hash hash;
    uint64_t whole = length & ~UINT64_C(7), last = length << 56;

    for (uint64_t at = 0; at < whole; at += 8) {
        uint64_t word;
        memcpy(&word, text + at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        sip_absorb(&s, word);
    }
    for (uint64_t at = whole; at < length; at++)
        last |= (uint64_t)text[at] << (at - whole) * 8;
    sip_absorb(&s, last);
    s.c ^= 0xee;
    hash.low = sip_squeeze(&s);
    s.b ^= 0xdd;
    hash.high = sip_squeeze(&s);
    return hash;
}

#endif
