#include "net/http_head.h"

#include "proto/check.h"

#include <stdlib.h>

enum {
    FIELD_OVERHEAD = 4,         /* bytes: ": " and CRLF */
    CONTENT_LENGTH_DIGITS = 18, /* what fits a uint64_t, and an int64_t, whatever the digits */
};

struct head_builder *head_builder_new(void)
{
    struct head_builder *b = malloc(sizeof *b);

    CHECK(b != NULL);
    memset(b, 0, offsetof(struct head_builder, at));
    writer_init(&b->bytes, HTTP_TARGET_MAX + HTTP_HEADER_BYTES_MAX);
    writer_reserve(&b->bytes, HTTP_HEAD_USUAL);
    return b;
}

void head_builder_free(struct head_builder *b)
{
    if (b != NULL) {
        writer_fini(&b->bytes);
        free(b);
    }
}

bool head_add_target(struct head_builder *b, struct span piece)
{
    b->target_size += piece.size;
    if (b->target_size > HTTP_TARGET_MAX) {
        b->target_too_long = true;
        return false;
    }
    writer_bytes(&b->bytes, piece);
    return true;
}

static bool add_to_headers(struct head_builder *b, struct span piece)
{
    size_t so_far = b->bytes.size - b->target_size + b->n * FIELD_OVERHEAD;

    if (so_far + piece.size > HTTP_HEADER_BYTES_MAX) {
        b->headers_too_large = true;
        return false;
    }
    writer_bytes(&b->bytes, piece);
    b->at[b->n - 1].end = b->bytes.size;
    return true;
}

bool head_add_name(struct head_builder *b, struct span piece)
{
    if (!b->in_name) {
        if (b->n == HTTP_HEADERS_MAX) {
            b->headers_too_large = true;
            return false;
        }
        b->in_name = true;
        b->at[b->n++].name = b->bytes.size;
    }
    return add_to_headers(b, piece);
}

void head_end_name(struct head_builder *b)
{
    b->in_name = false;
    b->at[b->n - 1].value = b->at[b->n - 1].end = b->bytes.size;
}

bool head_add_value(struct head_builder *b, struct span piece)
{
    return add_to_headers(b, piece);
}

void head_finish(struct head_builder *b, struct http_head *out)
{
    struct span all = writer_span(&b->bytes);

    CHECK(!b->bytes.failed);
    for (size_t i = 0; i < b->n; i++) {
        size_t name = b->at[i].name;
        size_t value = b->at[i].value;
        b->headers[i].name = span_of(all.data + name, value - name);
        b->headers[i].value = http_trim(span_of(all.data + value, b->at[i].end - value));
    }
    out->target = span_of(all.data, b->target_size);
    out->headers = b->headers;
    out->n_headers = b->n;
}

static bool parse_content_length(uint64_t *out, struct span digits)
{
    *out = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9') {
            return false;
        }
        *out = *out * 10 + (uint64_t)(digits.data[i] - '0');
    }
    return digits.size > 0 && digits.size <= CONTENT_LENGTH_DIGITS;
}

bool head_set_framing(struct http_head *head)
{
    static const struct span length_name = SPAN_INIT("content-length");
    static const struct span coding_name = SPAN_INIT("transfer-encoding");
    size_t n_lengths = http_header_count(head, length_name);
    size_t n_codings = http_header_count(head, coding_name);

    head->has_content_length = n_lengths == 1;
    head->chunked = n_codings == 1;
    head->content_length = 0;
    if (n_lengths + n_codings > 1) {
        return false;
    }
    if (head->chunked) {
        return span_equal_nocase(http_header_find(head, coding_name), SPAN_LIT("chunked"));
    }
    return n_lengths == 0 ||
           parse_content_length(&head->content_length, http_header_find(head, length_name));
}

/* A name that some server behind us might take for one that decides where a message ends. */
static bool is_underscore_twin(struct span name)
{
    return span_equal_nocase(name, SPAN_LIT("content_length")) ||
           span_equal_nocase(name, SPAN_LIT("transfer_encoding"));
}

static bool headers_are_sound(const struct http_head *head)
{
    for (size_t i = 0; i < head->n_headers; i++) {
        if (!http_name_is_valid(head->headers[i].name) ||
            !http_value_is_valid(head->headers[i].value) ||
            is_underscore_twin(head->headers[i].name)) {
            return false;
        }
    }
    return true;
}

static bool target_is_sound(struct span target)
{
    for (size_t i = 0; i < target.size; i++) {
        unsigned char c = (unsigned char)target.data[i];
        if (c <= 0x20 || c == 0x7f || c == '#') {
            return false;
        }
    }
    return target.size > 0;
}

/* http://AUTHORITY/PATH becomes /PATH if AUTHORITY is what Host says. */
static bool make_origin_form(struct http_head *head, struct span host)
{
    struct span rest = head->target;
    const char *slash;

    if (rest.data[0] == '/') {
        return true;
    }
    if (span_equal(rest, SPAN_LIT("*"))) {
        return span_equal(head->method, SPAN_LIT("OPTIONS"));
    }
    if (span_equal_nocase(span_of(rest.data, rest.size < 7 ? rest.size : 7), SPAN_LIT("http://"))) {
        rest = span_skip(rest, 7);
    } else if (span_equal_nocase(span_of(rest.data, rest.size < 8 ? rest.size : 8),
                                 SPAN_LIT("https://"))) {
        rest = span_skip(rest, 8);
    } else {
        return false;
    }
    slash = rest.size == 0 ? NULL : memchr(rest.data, '/', rest.size);
    if (slash == NULL ||
        !span_equal_nocase(span_of(rest.data, (size_t)(slash - rest.data)), host)) {
        return false;
    }
    head->target = span_skip(rest, (size_t)(slash - rest.data));
    return true;
}

enum reject head_judge_request(struct http_head *head, unsigned version)
{
    struct span expect = http_header_find(head, SPAN_LIT("expect"));
    struct span host = http_header_find(head, SPAN_LIT("host"));

    if (version != 10 && version != 11) {
        return REJECT_BAD_HTTP;
    }
    if (!headers_are_sound(head) || !head_set_framing(head) || (head->chunked && version == 10) ||
        http_header_count(head, SPAN_LIT("host")) != 1) {
        return REJECT_BAD_HTTP;
    }
    if (span_equal(head->method, SPAN_LIT("CONNECT")) ||
        span_equal(head->method, SPAN_LIT("TRACE")) ||
        http_header_count(head, SPAN_LIT("upgrade")) > 0) {
        return REJECT_METHOD_NOT_IMPLEMENTED;
    }
    if (http_header_count(head, SPAN_LIT("expect")) > 1 ||
        (expect.data != NULL && !span_equal_nocase(expect, SPAN_LIT("100-continue")))) {
        return REJECT_EXPECTATION_FAILED;
    }
    if (host.size == 0 || !target_is_sound(host) || !target_is_sound(head->target) ||
        !make_origin_form(head, host)) {
        return REJECT_BAD_HTTP;
    }
    return REJECT_NONE;
}

bool head_judge_response(struct http_head *head, unsigned version)
{
    return (version == 10 || version == 11) && headers_are_sound(head) && head_set_framing(head) &&
           !(head->chunked && version == 10) && head->status != 101;
}

static void write_header(struct writer *w, struct span name, struct span value)
{
    if (!http_name_is_valid(name) || !http_value_is_valid(value)) {
        w->failed = true;
        return;
    }
    writer_bytes(w, name);
    writer_bytes(w, SPAN_LIT(": "));
    writer_bytes(w, value);
    writer_bytes(w, SPAN_LIT("\r\n"));
}

static bool is_ours_to_write(struct span name)
{
    return span_equal_nocase(name, SPAN_LIT("content-length")) ||
           span_equal_nocase(name, SPAN_LIT("transfer-encoding")) ||
           span_equal_nocase(name, SPAN_LIT("connection")) ||
           span_equal_nocase(name, SPAN_LIT("keep-alive")) ||
           span_equal_nocase(name, SPAN_LIT("proxy-connection")) ||
           span_equal_nocase(name, SPAN_LIT("expect"));
}

static void write_headers(struct writer *w, const struct http_header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_ours_to_write(headers[i].name)) {
            write_header(w, headers[i].name, headers[i].value);
        }
    }
}

static void write_content_length(struct writer *w, uint64_t length)
{
    writer_bytes(w, SPAN_LIT("Content-Length: "));
    writer_u64(w, length);
    writer_bytes(w, SPAN_LIT("\r\n"));
}

/* A method for which no length would leave a server guessing. Source: RFC 9110 8.6. */
static bool expects_body(struct span method)
{
    return span_equal(method, SPAN_LIT("POST")) || span_equal(method, SPAN_LIT("PUT")) ||
           span_equal(method, SPAN_LIT("PATCH"));
}

void head_write_request(struct writer *w, const struct http_head *head, struct span host)
{
    if (!http_name_is_valid(head->method) || !target_is_sound(head->target)) {
        w->failed = true;
        return;
    }
    writer_bytes(w, head->method);
    writer_char(w, ' ');
    writer_bytes(w, head->target);
    writer_bytes(w, SPAN_LIT(" HTTP/1.1\r\n"));
    if (http_header_count(head, SPAN_LIT("host")) == 0) {
        write_header(w, SPAN_LIT("Host"), host);
    }
    write_headers(w, head->headers, head->n_headers);
    if (head->has_content_length) {
        write_content_length(w, head->content_length);
    } else if (head->chunked) {
        writer_bytes(w, SPAN_LIT("Transfer-Encoding: chunked\r\n"));
    } else if (expects_body(head->method)) {
        write_content_length(w, 0);
    }
    writer_bytes(w, SPAN_LIT("\r\n"));
}

void head_write_response(struct writer *w, unsigned status, const struct http_header *headers,
                         size_t n_headers, const struct head_framing *framing)
{
    CHECK(status >= 100 && status <= 999);
    writer_bytes(w, SPAN_LIT("HTTP/1.1 "));
    writer_u64(w, status);
    writer_char(w, ' ');
    writer_bytes(w, http_reason(status));
    writer_bytes(w, SPAN_LIT("\r\n"));
    write_headers(w, headers, n_headers);
    if (framing->has_content_length) {
        write_content_length(w, framing->content_length);
    } else if (framing->chunked) {
        writer_bytes(w, SPAN_LIT("Transfer-Encoding: chunked\r\n"));
    }
    if (framing->closes) {
        writer_bytes(w, SPAN_LIT("Connection: close\r\n"));
    }
    writer_bytes(w, SPAN_LIT("\r\n"));
}
