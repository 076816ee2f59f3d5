#include "proto/srv.h"

#include "proto/check.h"

enum {
    HEADER_SIZE = 12, /* bytes of a message */
    FIXED_SIZE = 10,  /* bytes of a record between its name and its data */
    SRV_FIXED = 6,    /* bytes before the target */
    TYPE_SRV = 33,    /* Source: RFC 2782 */
    CLASS_IN = 1,
    POINTER = 0xc0, /* the two bits that make a length a pointer. Source: RFC 1035, 4.1.4 */
};

/* Sticky: after a read beyond the end nothing is read any more. */
struct cursor {
    struct span message;
    size_t at;
    bool failed;
};

static uint8_t byte_at(const struct cursor *c, size_t at)
{
    return (uint8_t)c->message.data[at];
}

static void skip(struct cursor *c, size_t n)
{
    if (c->failed || n > c->message.size - c->at) {
        c->failed = true;
    } else {
        c->at += n;
    }
}

static uint32_t take_number(struct cursor *c, size_t n)
{
    size_t from = c->at;
    uint32_t value = 0;

    skip(c, n);
    for (size_t i = 0; i < n && !c->failed; i++) {
        value = value << 8 | byte_at(c, from + i);
    }
    return value;
}

static void skip_name(struct cursor *c)
{
    uint32_t length = take_number(c, 1);

    while (!c->failed && length != 0 && length < POINTER) {
        skip(c, length);
        length = take_number(c, 1);
    }
    if (length >= POINTER) {
        skip(c, 1);
    }
}

static bool is_host_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* A label and, if it is not the first, the dot before it. */
static bool add_label(char out[SRV_TARGET_MAX + 1], size_t *size, struct span label)
{
    size_t dot = *size > 0 ? 1 : 0;

    if (label.size + dot > SRV_TARGET_MAX - *size) {
        return false;
    }
    out[*size] = '.';
    *size += dot;
    for (size_t i = 0; i < label.size; i++) {
        if (!is_host_char((uint8_t)label.data[i])) {
            return false;
        }
        out[(*size)++] = label.data[i];
    }
    return true;
}

/* The name at the cursor. Pointers lead backwards only, so that it ends. */
static bool read_name(char out[SRV_TARGET_MAX + 1], struct cursor c)
{
    size_t size = 0;
    size_t least = c.at;

    for (;;) {
        uint32_t length = take_number(&c, 1);
        size_t from = c.at;
        if (length >= POINTER) {
            c.at--;
            c.at = take_number(&c, 2) & 0x3fff;
            if (c.failed || c.at >= least) {
                return false;
            }
            least = c.at;
        } else if (length == 0 || c.failed) {
            out[size] = '\0';
            return !c.failed;
        } else {
            skip(&c, length);
            if (c.failed || !add_label(out, &size, span_of(c.message.data + from, length))) {
                return false;
            }
        }
    }
}

/* Where a record of that priority goes: behind the others or, when there are too many, in place of
 * the one that would be tried last. NULL: that is the new one. */
static struct srv_record *room_for(struct srv_answer *out, uint16_t priority)
{
    struct srv_record *last = &out->records[0];

    if (out->n < SRV_RECORDS_MAX) {
        return &out->records[out->n++];
    }
    for (size_t i = 1; i < out->n; i++) {
        last = out->records[i].priority > last->priority ? &out->records[i] : last;
    }
    return last->priority > priority ? last : NULL;
}

static void read_srv(struct srv_answer *out, struct cursor c, uint32_t ttl_s)
{
    struct srv_record record;

    record.priority = (uint16_t)take_number(&c, 2);
    record.weight = (uint16_t)take_number(&c, 2);
    record.port = (uint16_t)take_number(&c, 2);
    if (!c.failed && read_name(record.target, c)) {
        struct srv_record *room = room_for(out, record.priority);
        out->ttl_s = ttl_s < out->ttl_s ? ttl_s : out->ttl_s;
        if (room != NULL) {
            *room = record;
        }
    }
}

static void take_record(struct srv_answer *out, struct cursor *c)
{
    skip_name(c);
    uint32_t type = take_number(c, 2);
    uint32_t class = take_number(c, 2);
    uint32_t ttl_s = take_number(c, 4);
    uint32_t size = take_number(c, 2);
    struct cursor data = *c;

    skip(c, size);
    if (!c->failed && type == TYPE_SRV && class == CLASS_IN && size > SRV_FIXED) {
        /* RFC 2181, section 8: the highest bit set means 0. */
        read_srv(out, data, ttl_s <= INT32_MAX ? ttl_s : 0);
    }
}

bool srv_answer_decode(struct srv_answer *out, struct span message)
{
    struct cursor c = {.message = message};

    out->n = 0;
    out->ttl_s = UINT32_MAX;
    skip(&c, 4);
    uint32_t n_questions = take_number(&c, 2);
    uint32_t n_records = take_number(&c, 2);
    skip(&c, HEADER_SIZE - 8);
    for (uint32_t i = 0; i < n_questions && !c.failed; i++) {
        skip_name(&c);
        skip(&c, 4);
    }
    for (uint32_t i = 0; i < n_records && !c.failed; i++) {
        take_record(out, &c);
    }
    return !c.failed;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15U;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

static bool may_be_next(const struct srv_answer *answer, size_t from, size_t i)
{
    for (size_t k = from; k < answer->n; k++) {
        if (answer->records[k].priority < answer->records[i].priority) {
            return false;
        }
    }
    return true;
}

/* Each gets one more than its weight, so that a weight of 0 has a small chance, as it should. */
static size_t choose(const struct srv_answer *answer, size_t from, uint64_t *seed)
{
    uint64_t sum = 0;
    size_t last = from;

    for (size_t i = from; i < answer->n; i++) {
        sum += may_be_next(answer, from, i) ? answer->records[i].weight + 1U : 0;
    }
    CHECK(sum > 0);
    uint64_t left = next_random(seed) % sum;
    for (size_t i = from; i < answer->n; i++) {
        if (may_be_next(answer, from, i)) {
            last = i;
            if (left <= answer->records[i].weight) {
                break;
            }
            left -= answer->records[i].weight + 1U;
        }
    }
    return last;
}

void srv_answer_order(struct srv_answer *answer, uint64_t seed)
{
    for (size_t i = 0; i + 1 < answer->n; i++) {
        size_t next = choose(answer, i, &seed);
        struct srv_record record = answer->records[i];
        answer->records[i] = answer->records[next];
        answer->records[next] = record;
    }
}
