/* Any bytes as the head of an HTTP/1.1 request, once through the parser and once split at lines,
 * which lets pass what the parser would refuse. What is judged fine has one meaning: one Host, a
 * target of a known form, no control bytes, one framing at most, and that the one the parser reads
 * the body by. */
#include "net/http_head.h"
#include "proto/check.h"

#include <llhttp.h>

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MAX = 1 << 20 /* bytes */, STOP_PARSING = HPE_USER };

struct parsed {
    llhttp_t parser;
    struct head_builder *builder;
    struct http_head head;
    bool is_too_large;
    bool is_fine;
};

static int stop_if(struct parsed *p, bool is_too_large)
{
    p->is_too_large = is_too_large;
    return is_too_large ? STOP_PARSING : 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    struct parsed *p = parser->data;

    return stop_if(p, !head_add_target(p->builder, span_of(at, size)));
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    struct parsed *p = parser->data;

    return stop_if(p, !head_add_name(p->builder, span_of(at, size)));
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct parsed *p = parser->data;

    head_end_name(p->builder);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    struct parsed *p = parser->data;

    return stop_if(p, !head_add_value(p->builder, span_of(at, size)));
}

static unsigned lower(char c)
{
    unsigned byte = (unsigned char)c;

    return byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte;
}

static bool is_text(struct span a, const char *text)
{
    size_t i = 0;

    while (i < a.size && text[i] != '\0' && lower(a.data[i]) == lower(text[i])) {
        i++;
    }
    return i == a.size && text[i] == '\0';
}

static unsigned count_named(const struct http_head *head, const char *name)
{
    unsigned n = 0;

    for (size_t i = 0; i < head->n_headers; i++) {
        n += is_text(head->headers[i].name, name);
    }
    return n;
}

/* Of a header that is there. */
static struct span value_of(const struct http_head *head, const char *name)
{
    size_t i = 0;

    while (!is_text(head->headers[i].name, name)) {
        i++;
    }
    return head->headers[i].value;
}

static void check_bytes(struct span text, bool may_have_blanks)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        CHECK(c != 0x7f && (c > 0x20 || (may_have_blanks && (c == ' ' || c == '\t'))));
    }
}

/* The target as sent is what is left of it, after a scheme and what Host says. */
static void check_absolute_form(const struct http_head *head, struct span sent)
{
    struct span host = value_of(head, "host");
    size_t scheme_size = sent.size - head->target.size - host.size;

    CHECK(sent.size > head->target.size + host.size);
    CHECK(is_text(span_of(sent.data, scheme_size), "http://") ||
          is_text(span_of(sent.data, scheme_size), "https://"));
    for (size_t i = 0; i < host.size; i++) {
        CHECK(lower(sent.data[scheme_size + i]) == lower(host.data[i]));
    }
    CHECK(span_equal(span_skip(sent, scheme_size + host.size), head->target));
}

static void check_target(const struct http_head *head, struct span sent)
{
    bool is_star = span_equal(head->target, SPAN_LIT("*"));

    CHECK(head->target.size > 0 && head->target.size <= HTTP_TARGET_MAX);
    CHECK(head->target.data[0] == '/' || is_star);
    CHECK(!is_star || span_equal(head->method, SPAN_LIT("OPTIONS")));
    check_bytes(head->target, false);
    if (!span_equal(head->target, sent)) {
        check_absolute_form(head, sent);
    }
}

static void check_framing(const struct http_head *head)
{
    unsigned n_lengths = count_named(head, "content-length");
    unsigned n_codings = count_named(head, "transfer-encoding");

    CHECK(n_lengths + n_codings <= 1);
    CHECK(head->has_content_length == (n_lengths == 1));
    CHECK(head->chunked == (n_codings == 1));
    CHECK(!head->chunked || is_text(value_of(head, "transfer-encoding"), "chunked"));
}

static void check_content_length(const struct http_head *head)
{
    uint64_t want = 0;
    struct span digits = SPAN_LIT("0");

    if (head->has_content_length) {
        digits = value_of(head, "content-length");
    }
    for (size_t i = 0; i < digits.size; i++) {
        CHECK(digits.data[i] >= '0' && digits.data[i] <= '9' && want <= UINT64_MAX / 10 - 1);
        want = want * 10 + (uint64_t)(digits.data[i] - '0');
    }
    CHECK(digits.size > 0 && head->content_length == want);
}

static void check_header(const struct http_header *header)
{
    struct span value = header->value;

    CHECK(header->name.size > 0);
    check_bytes(header->name, false);
    check_bytes(value, true);
    if (value.size > 0) {
        check_bytes(span_of(value.data, 1), false);
        check_bytes(span_of(value.data + value.size - 1, 1), false);
    }
}

static void check_judged(const struct http_head *head, struct span sent)
{
    CHECK(count_named(head, "host") == 1 && value_of(head, "host").size > 0);
    check_bytes(value_of(head, "host"), false);
    CHECK(count_named(head, "upgrade") + count_named(head, "content_length") +
              count_named(head, "transfer_encoding") ==
          0);
    CHECK(!span_equal(head->method, SPAN_LIT("CONNECT")));
    CHECK(head->n_headers <= HTTP_HEADERS_MAX);
    for (size_t i = 0; i < head->n_headers; i++) {
        check_header(&head->headers[i]);
    }
    check_target(head, sent);
    check_framing(head);
    check_content_length(head);
}

/* Two readers of one message must not find different ends of it. */
static void check_same_framing(const llhttp_t *parser, const struct http_head *head)
{
    bool has_length = (parser->flags & F_CONTENT_LENGTH) != 0;
    bool is_chunked = (parser->flags & F_CHUNKED) != 0;

    CHECK(head->chunked == is_chunked && head->has_content_length == has_length);
    CHECK(!has_length || head->content_length == parser->content_length);
}

static int on_headers_complete(llhttp_t *parser)
{
    struct parsed *p = parser->data;
    unsigned version = parser->http_major * 10U + parser->http_minor;

    p->head.method = span_str(llhttp_method_name((llhttp_method_t)parser->method));
    head_finish(p->builder, &p->head);
    struct span sent = p->head.target;
    p->is_fine = head_judge_request(&p->head, version) == REJECT_NONE;
    if (p->is_fine) {
        check_judged(&p->head, sent);
        check_same_framing(parser, &p->head);
    }
    return STOP_PARSING;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* Fed in pieces of that many bytes, as a connection might deliver it. */
static void parse(struct parsed *out, struct span text, size_t piece)
{
    *out = (struct parsed){.builder = head_builder_new()};
    llhttp_init(&out->parser, HTTP_REQUEST, &settings);
    out->parser.data = out;
    while (text.size > 0) {
        size_t n = piece < text.size ? piece : text.size;
        /* Each piece alone in its memory, so that a look past its end is seen. */
        char *copy = malloc(n);
        CHECK(copy != NULL);
        memcpy(copy, text.data, n);
        llhttp_errno_t result = llhttp_execute(&out->parser, copy, n);
        free(copy);
        if (result != HPE_OK) {
            return;
        }
        text = span_skip(text, n);
    }
}

static void check_same_message(const struct http_head *a, const struct http_head *b)
{
    CHECK(span_equal(a->method, b->method) && span_equal(a->target, b->target));
    CHECK(a->chunked == b->chunked && a->content_length == b->content_length);
}

static void check_same_headers(const struct http_head *a, const struct http_head *b)
{
    CHECK(a->n_headers == b->n_headers);
    for (size_t i = 0; i < a->n_headers; i++) {
        CHECK(span_equal(a->headers[i].name, b->headers[i].name));
        CHECK(span_equal(a->headers[i].value, b->headers[i].value));
    }
}

/* What we would relay is fine in its turn, and about the same thing. */
static void check_relayed(const struct http_head *head)
{
    struct parsed again;
    struct writer text;

    writer_init(&text, OUTPUT_MAX);
    head_write_request(&text, head, SPAN_LIT("unused"));
    CHECK(!text.failed);
    parse(&again, writer_span(&text), text.size);
    CHECK(again.is_fine || again.is_too_large); /* "Content-Length: 0" may be one header more */
    if (again.is_fine) {
        check_same_message(&again.head, head);
    }
    head_builder_free(again.builder);
    writer_fini(&text);
}

static void check_parsed(struct span text)
{
    struct parsed whole;
    struct parsed pieces;

    parse(&whole, text, text.size);
    parse(&pieces, text, 1);
    CHECK(whole.is_fine == pieces.is_fine);
    if (whole.is_fine) {
        check_same_message(&whole.head, &pieces.head);
        check_same_headers(&whole.head, &pieces.head);
        check_relayed(&whole.head);
    }
    head_builder_free(whole.builder);
    head_builder_free(pieces.builder);
}

/* The part before the separator, which goes too; all there is if it has none. */
static struct span take(struct span *text, char separator)
{
    const char *at = text->size == 0 ? NULL : memchr(text->data, separator, text->size);
    struct span part = at == NULL ? *text : span_of(text->data, (size_t)(at - text->data));

    *text = span_skip(*text, at == NULL ? part.size : part.size + 1);
    return part;
}

/* "METHOD TARGET\n", then "NAME:VALUE\n" each. False: too large, or no target, which no parser
 * lets pass. */
static bool split(struct http_head *out, struct head_builder *builder, struct span text)
{
    struct span line = take(&text, '\n');

    *out = (struct http_head){.method = take(&line, ' ')};
    struct span target = take(&line, ' ');
    bool is_whole = target.size > 0 && head_add_target(builder, target);
    while (is_whole && text.size > 0) {
        line = take(&text, '\n');
        is_whole = head_add_name(builder, take(&line, ':'));
        if (is_whole) {
            head_end_name(builder);
            is_whole = head_add_value(builder, line);
        }
    }
    if (is_whole) {
        head_finish(builder, out);
    }
    return is_whole;
}

static void check_split(struct span text, unsigned version)
{
    struct head_builder *builder = head_builder_new();
    struct http_head head;
    bool is_whole = split(&head, builder, text);
    struct span sent = head.target;

    if (is_whole && head_judge_request(&head, version) == REJECT_NONE) {
        check_judged(&head, sent);
        CHECK(version == 11 || !head.chunked);
    }
    head_builder_free(builder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);

    check_parsed(text);
    check_split(text, 11);
    check_split(text, 10);
    return 0;
}
