/* Heads, read in one pass from left to right. No Python here, no allocation; the caller brings the memory.
 *
 * The rules are those of workers/http1/grammar.py and of the twin (workers/http1/fields_twin.py,
 * request_twin.py, response_twin.py), which is the specification; a differential test compares both on
 * valid, mutated and random octets, whole and cut.
 *
 * A line is judged when its LF is there. The pass finds what is wrong sooner, so every refusal of a line asks
 * first whether the LF has come (`judge`): without it the head is merely incomplete. That is what makes
 * a head in pieces meet the same end as a whole one.
 *
 * Every loop goes forward over [at, end), or over the fields that were found, at most FIELDS_MAX; the one
 * that is nested (options of Connection times fields) is bounded by OPTIONS_MAX.
 */
#ifndef SENTINEL_READER_H
#define SENTINEL_READER_H

#include "names.h"

enum { FIELDS_MAX = 1000, METHOD_MAX = 32, OPTIONS_MAX = 32, LENGTH_DIGITS_MAX = 19 };
enum { LINE_MARGIN = METHOD_MAX + sizeof("  HTTP/1.1\r") - 1 };

enum reason {
    BAD_REQUEST_LINE, BAD_HEADER, BAD_FRAMING, BAD_HOST, BAD_VERSION, BAD_EXPECTATION, URI_TOO_LONG,
    HEADER_TOO_LARGE, UPSTREAM_MALFORMED, REASONS
};

enum outcome { WHOLE, PARTIAL, REFUSED };

/* One line of a head. Offsets count from the beginning of the window. */
struct field {
    uint32_t name, name_size, value, value_size;
    uint16_t known; /* number in the table of names, or UNKNOWN */
    uint8_t role;
    uint8_t is_nominated; /* Connection takes it away */
    uint8_t is_canonical; /* the line is `name: value CRLF` as it stands */
};

struct slice {
    const uint8_t *at;
    size_t size;
};

struct reader {
    const struct names *names;
    const uint8_t *base, *end; /* the window: the head has to end within it */
    uint32_t fields_max;
    uint32_t fields_count;
    uint32_t counts[ROLES];
    uint32_t latest[ROLES]; /* the field that had this role last */
    enum reason reason;
    const char *detail;
    /* What was read. */
    size_t size;
    struct slice method, target, phrase, upgrade, host;
    uint32_t status;
    uint8_t minor, has_host, chunked, keep_alive, expect_continue, until_close;
    int64_t length;    /* what follows, -1: not known by a length */
    int64_t announced; /* what Content-Length says, -1: nothing */
    uint8_t has_close, has_keep_alive, has_upgrade;
    struct field fields[FIELDS_MAX]; /* last, and never cleared as a whole */
};

static inline enum outcome refuse(struct reader *r, enum reason reason, const char *detail)
{
    r->reason = reason;
    r->detail = detail;
    return REFUSED;
}

static inline struct slice slice_of(const uint8_t *at, const uint8_t *end)
{
    return (struct slice){at, (size_t)(end - at)};
}

static inline struct slice value_of(const struct reader *r, const struct field *field)
{
    return (struct slice){r->base + field->value, field->value_size};
}

/* Fields */

/* A line turned out wrong at `p`. */
static inline enum outcome judge(struct reader *r, const uint8_t *p, const char *detail)
{
    if (memchr(p, '\n', (size_t)(r->end - p)) == NULL)
        return PARTIAL;
    if (r->fields_count == r->fields_max)
        return refuse(r, HEADER_TOO_LARGE, "too many fields");
    return refuse(r, BAD_HEADER, detail);
}

/* One line, from its first octet; `*next` becomes the place where the following line begins. */
static inline enum outcome read_field(struct reader *r, const uint8_t *line, const uint8_t **next)
{
    const uint8_t *p = line, *end = r->end;
    uint8_t lower[NAME_BYTES_MAX];
    if (is_blank(*p))
        return judge(r, p, "a line begins with a blank");
    for (uint8_t c; p < end && (c = token_lower[*p]) != 0; p++)
        if (p - line < NAME_BYTES_MAX)
            lower[p - line] = c;
    if (p == end)
        return PARTIAL;
    if (p == line || *p != ':')
        return judge(r, p, "a name is malformed, or no colon follows it");
    const uint8_t *stop = text_end(p + 1, end);
    if (stop == end || (*stop == '\r' && stop + 1 == end))
        return PARTIAL;
    if (stop[0] != '\r' || stop[1] != '\n')
        return judge(r, stop, "a value contains a control, or its line does not end in CRLF");
    if (r->fields_count == r->fields_max)
        return refuse(r, HEADER_TOO_LARGE, "too many fields");
    const uint8_t *value = p + 1, *value_end = stop;
    while (value < value_end && is_blank(*value))
        value++;
    while (value_end > value && is_blank(value_end[-1]))
        value_end--;
    uint32_t index = r->fields_count++;
    struct field *field = &r->fields[index];
    size_t size = (size_t)(p - line);
    field->name = (uint32_t)(line - r->base);
    field->name_size = (uint32_t)size;
    field->value = (uint32_t)(value - r->base);
    field->value_size = (uint32_t)(value_end - value);
    field->known = find_name(r->names, lower, size);
    field->role = field->known != UNKNOWN ? r->names->known[field->known].role
                                          : role_of_unknown(r->names, lower, size);
    field->is_nominated = 0;
    field->is_canonical = value == p + 2 && p[1] == ' ' && value_end == stop;
    r->counts[field->role]++;
    r->latest[field->role] = index;
    *next = stop + 2;
    return WHOLE;
}

/* All lines from `p` to the empty one. */
static inline enum outcome read_fields(struct reader *r, const uint8_t *p)
{
    for (;;) {
        if (p == r->end)
            return PARTIAL;
        if (*p == '\r' && p + 1 < r->end && p[1] == '\n') {
            r->size = (size_t)(p + 2 - r->base);
            return WHOLE;
        }
        enum outcome outcome = read_field(r, p, &p);
        if (outcome != WHOLE)
            return outcome;
    }
}

/* Connection takes away the fields of this name, if it may: no field that anybody relies on. */
static inline void nominate(struct reader *r, const uint8_t *option, size_t size)
{
    if (size >= 2 && token_lower[option[0]] == 'x' && option[1] == '-')
        return;
    for (uint32_t i = 0; i < r->fields_count; i++) {
        struct field *field = &r->fields[i];
        if (field->role != PLAIN || field->name_size != size)
            continue;
        const uint8_t *name = r->base + field->name;
        size_t k = 0;
        while (k < size && token_lower[name[k]] == token_lower[option[k]])
            k++;
        field->is_nominated |= k == size;
    }
}

static inline void take_option(struct reader *r, const uint8_t *option, size_t size)
{
    if (IS(option, size, "close"))
        r->has_close = 1;
    else if (IS(option, size, "keep-alive"))
        r->has_keep_alive = 1;
    else if (IS(option, size, "upgrade"))
        r->has_upgrade = 1;
    else
        nominate(r, option, size);
}

/* All options of all Connection fields. */
static inline enum outcome read_options(struct reader *r)
{
    uint32_t options_count = 0;
    for (uint32_t i = 0; r->counts[CONNECTION] != 0 && i <= r->latest[CONNECTION]; i++) {
        if (r->fields[i].role != CONNECTION)
            continue;
        struct slice value = value_of(r, &r->fields[i]);
        const uint8_t *p = value.at, *end = value.at + value.size;
        while (p < end) {
            const uint8_t *comma = memchr(p, ',', (size_t)(end - p));
            const uint8_t *stop = comma != NULL ? comma : end, *next = comma != NULL ? comma + 1 : end;
            while (p < stop && is_blank(*p))
                p++;
            while (stop > p && is_blank(stop[-1]))
                stop--;
            if (stop > p) {
                if (++options_count > OPTIONS_MAX)
                    return refuse(r, BAD_HEADER, "too many options of Connection");
                take_option(r, p, (size_t)(stop - p));
            }
            p = next;
        }
    }
    r->keep_alive = !r->has_close && (r->minor == 1 || r->has_keep_alive);
    return WHOLE;
}

/* What stands between the colon and the CR, if only spaces, no tabs, surround it. */
static inline int is_spaced(const struct reader *r, const struct field *field)
{
    const uint8_t *p = r->base + field->name + field->name_size + 1;
    for (; p < r->base + field->value; p++)
        if (*p != ' ')
            return 0;
    for (p += field->value_size; *p != '\r'; p++)
        if (*p != ' ')
            return 0;
    return 1;
}

static inline enum outcome read_length(struct reader *r, const struct field *field)
{
    struct slice value = value_of(r, field);
    uint64_t length = 0;
    int is_good = is_spaced(r, field) && value.size > 0 && value.size <= LENGTH_DIGITS_MAX;
    for (size_t i = 0; is_good && i < value.size; i++) {
        is_good = is_digit(value.at[i]);
        length = length * 10 + (uint64_t)(value.at[i] - '0'); /* 19 digits are less than 2**64 */
    }
    if (!is_good || length > INT64_MAX)
        return refuse(r, BAD_FRAMING, "Content-Length is not a number in range");
    r->length = r->announced = (int64_t)length;
    return WHOLE;
}

/* What leaves room for two readings is refused. */
static inline enum outcome read_framing(struct reader *r)
{
    r->length = r->announced = -1;
    r->chunked = 0;
    if (r->counts[LENGTH] + r->counts[CODING] > 1)
        return refuse(r, BAD_FRAMING, "there is more than one Content-Length or Transfer-Encoding");
    if (r->counts[LENGTH] != 0)
        return read_length(r, &r->fields[r->latest[LENGTH]]);
    if (r->counts[CODING] == 0)
        return WHOLE;
    if (r->minor == 0)
        return refuse(r, BAD_FRAMING, "Transfer-Encoding in HTTP/1.0");
    const struct field *field = &r->fields[r->latest[CODING]];
    struct slice value = value_of(r, field);
    if (!is_spaced(r, field) || !IS(value.at, value.size, "chunked"))
        return refuse(r, BAD_FRAMING, "a transfer coding other than chunked");
    r->chunked = 1;
    return WHOLE;
}

/* The protocols that Upgrade offers, if Connection names it; nothing for nonsense, and for h2c. */
static inline void read_upgrade(struct reader *r)
{
    r->upgrade = slice_of(r->base, r->base);
    if (!r->has_upgrade || r->counts[UPGRADE] != 1)
        return;
    struct slice value = value_of(r, &r->fields[r->latest[UPGRADE]]);
    const uint8_t *p = value.at, *end = value.at + value.size;
    for (;;) {
        const uint8_t *name = p;
        while (p < end && token_lower[*p] != 0)
            p++;
        if (IS(name, (size_t)(p - name), "h2c"))
            return;
        while (p < end && (token_lower[*p] != 0 || *p == '/'))
            p++;
        if (p == name)
            return;
        if (p == end)
            break;
        if (*p++ != ',')
            return;
        p += p < end && *p == ' ';
    }
    r->upgrade = value;
}

/* Requests */

static inline enum outcome judge_request_line(struct reader *r, const uint8_t *line, size_t uri_max)
{
    const uint8_t *feed = memchr(line, '\n', (size_t)(r->end - line));
    const uint8_t *stop = feed != NULL ? feed : r->end;
    if ((size_t)(stop - line) > uri_max + LINE_MARGIN)
        return refuse(r, URI_TOO_LONG, "the target is too long");
    return feed == NULL ? PARTIAL : refuse(r, BAD_REQUEST_LINE, "the request line is malformed");
}

/* `METHOD target HTTP/1.x CRLF`; `*next` becomes the place where the fields begin. */
static inline enum outcome read_request_line(struct reader *r, const uint8_t *line, size_t uri_max,
                                             const uint8_t **next)
{
    const uint8_t *p = method_end(line, r->end), *end = r->end;
    r->method = slice_of(line, p);
    if (p == end || *p != ' ' || r->method.size == 0 || r->method.size > METHOD_MAX)
        return judge_request_line(r, line, uri_max);
    const uint8_t *target = p + 1;
    p = visible_end(target, end);
    r->target = slice_of(target, p);
    if (end - p < (ptrdiff_t)sizeof(" HTTP/1.1\r\n") - 1 || r->target.size == 0 || memcmp(p, " HTTP/", 6) != 0 ||
        !is_digit(p[6]) || p[7] != '.' || !is_digit(p[8]) || p[9] != '\r' || p[10] != '\n')
        return judge_request_line(r, line, uri_max);
    if (r->target.size > uri_max)
        return refuse(r, URI_TOO_LONG, "the target is too long");
    if (p[6] != '1' || p[8] > '1')
        return refuse(r, BAD_VERSION, "the version is neither 1.0 nor 1.1");
    r->minor = p[8] == '1';
    *next = p + 11;
    return WHOLE;
}

static inline enum outcome read_host(struct reader *r)
{
    r->has_host = r->counts[HOST] != 0;
    if (r->counts[HOST] > 1)
        return refuse(r, BAD_HOST, "there is more than one Host");
    if (!r->has_host)
        return r->minor == 1 ? refuse(r, BAD_HOST, "there is no Host") : WHOLE;
    r->host = value_of(r, &r->fields[r->latest[HOST]]);
    int is_good = r->host.size > 0;
    for (size_t i = 0; is_good && i < r->host.size; i++)
        is_good = is_host(r->host.at[i]);
    return is_good ? WHOLE : refuse(r, BAD_HOST, "Host is empty or contains what no authority does");
}

/* HTTP/1.0 cannot expect (RFC 9110 section 10.1.1): there the field is ignored, and not passed on. */
static inline enum outcome read_expect(struct reader *r)
{
    r->expect_continue = 0;
    if (r->minor == 0 || r->counts[EXPECT] == 0)
        return WHOLE;
    struct slice value = value_of(r, &r->fields[r->latest[EXPECT]]);
    if (r->counts[EXPECT] > 1 || !IS(value.at, value.size, "100-continue"))
        return refuse(r, BAD_EXPECTATION, "an expectation other than one 100-continue");
    r->expect_continue = 1;
    return WHOLE;
}

static inline void begin(struct reader *r, const struct names *names, const uint8_t *base, const uint8_t *end,
                         uint32_t fields_max)
{
    memset(r, 0, offsetof(struct reader, fields));
    r->names = names;
    r->base = base;
    r->end = end;
    r->fields_max = fields_max;
}

static inline enum outcome read_request(struct reader *r, size_t uri_max)
{
    const uint8_t *p = r->base;
    enum outcome outcome;
    if (r->end - p >= 2 && p[0] == '\r' && p[1] == '\n')
        p += 2; /* one empty line, which old clients send after a body */
    if ((outcome = read_request_line(r, p, uri_max, &p)) != WHOLE || (outcome = read_fields(r, p)) != WHOLE ||
        (outcome = read_options(r)) != WHOLE || (outcome = read_host(r)) != WHOLE ||
        (outcome = read_framing(r)) != WHOLE || (outcome = read_expect(r)) != WHOLE)
        return outcome;
    if (r->minor == 1)
        read_upgrade(r);
    return WHOLE;
}

/* Answers; whatever is wrong with them has one reason. */

static inline enum outcome blame_upstream(struct reader *r, enum outcome outcome)
{
    if (outcome == REFUSED)
        r->reason = UPSTREAM_MALFORMED;
    return outcome;
}

static inline enum outcome judge_status_line(struct reader *r)
{
    if (memchr(r->base, '\n', (size_t)(r->end - r->base)) == NULL)
        return PARTIAL;
    return refuse(r, UPSTREAM_MALFORMED, "the status line is malformed");
}

/* `HTTP/1.x NNN phrase CRLF`; the phrase may be missing, with its space. */
static inline enum outcome read_status_line(struct reader *r, const uint8_t **next)
{
    const uint8_t *p = r->base, *end = r->end;
    if (end - p < (ptrdiff_t)sizeof("HTTP/1.1 200\r\n") - 1 || memcmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' ||
        p[7] > '1' || p[8] != ' ' || p[9] < '1' || p[9] > '5' || !is_digit(p[10]) || !is_digit(p[11]))
        return judge_status_line(r);
    r->minor = p[7] == '1';
    r->status = (uint32_t)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
    p += 12;
    const uint8_t *stop = *p == ' ' ? text_end(p + 1, end) : p;
    if (end - stop < 2 || stop[0] != '\r' || stop[1] != '\n')
        return judge_status_line(r);
    r->phrase = slice_of(*p == ' ' ? p + 1 : p, stop);
    *next = stop + 2;
    return WHOLE;
}

/* Where the body ends (RFC 9112 section 6.3). */
static inline enum outcome delimit(struct reader *r, int is_head)
{
    int is_bare = r->status < 200 || r->status == 204;
    if (r->status == 101 || r->status == 426)
        read_upgrade(r);
    if (is_bare && (r->chunked || r->announced > 0)) {
        if (r->status < 200)
            return refuse(r, UPSTREAM_MALFORMED, "an interim answer announces a body");
        r->keep_alive = 0; /* it may send what it announced */
    }
    if (r->status == 101 && r->upgrade.size == 0)
        return refuse(r, UPSTREAM_MALFORMED, "101 without a protocol");
    if (is_bare || r->status == 304 || is_head) {
        r->length = -1;
        r->chunked = 0;
    } else if (r->length < 0 && !r->chunked) {
        r->until_close = 1;
        r->keep_alive = 0;
    }
    return WHOLE;
}

static inline enum outcome read_response(struct reader *r, int is_head)
{
    const uint8_t *p = r->base;
    enum outcome outcome;
    if ((outcome = read_status_line(r, &p)) != WHOLE || (outcome = read_fields(r, p)) != WHOLE ||
        (outcome = read_options(r)) != WHOLE || (outcome = read_framing(r)) != WHOLE)
        return blame_upstream(r, outcome);
    return blame_upstream(r, delimit(r, is_head));
}

#endif
