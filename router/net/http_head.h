/* Heads put together from a parser's pieces, judged, and written. For net/ alone. */
#pragma once

#include "net/http.h"
#include "proto/own.h"
#include "proto/reject.h"
#include "proto/writer.h"

/* Allocated only while a head is being read or used: an idle connection has none. */
struct head_builder {
    struct writer bytes; /* the target, then names and values */
    size_t target_size;
    bool in_name;
    bool target_too_long, headers_too_large;
    size_t n;
    /* What follows is not set before there are n of it. */
    struct {
        size_t name, value, end; /* offsets into bytes */
    } at[HTTP_HEADERS_MAX];
    struct http_header headers[HTTP_HEADERS_MAX];
};

/* Bytes that are set aside for one: so many a homeserver's request or answer takes. */
enum { HTTP_HEAD_USUAL = 1024 };

struct head_builder *head_builder_new(void);
void head_builder_free(struct head_builder *b);

/* Pieces in the order they come. False: too large, and which limit it was stands in *b. */
MUST_CHECK bool head_add_target(struct head_builder *b, struct span piece);
MUST_CHECK bool head_add_name(struct head_builder *b, struct span piece);
void head_end_name(struct head_builder *b);
MUST_CHECK bool head_add_value(struct head_builder *b, struct span piece);

/* Sets target and headers; they live as long as the builder. */
void head_finish(struct head_builder *b, struct http_head *out);

/* Sets has_content_length, content_length and chunked. False: no framing that everybody would read
 * in the same way. */
MUST_CHECK bool head_set_framing(struct http_head *head);

/* What llhttp lets pass and we do not; makes an absolute-form target origin-form. `version` is
 * 10 * major + minor. Source: limits.md, "HTTP/1.1". */
enum reject head_judge_request(struct http_head *head, unsigned version);

/* The same for a response; `version` as above. */
MUST_CHECK bool head_judge_response(struct http_head *head, unsigned version);

/* Framing, Connection, Keep-Alive and Expect headers are left out and ours written. The writer
 * fails if something cannot be sent as it is. */
void head_write_request(struct writer *w, const struct http_head *head, struct span host);

/* What to say about the response's body and connection. */
struct head_framing {
    bool has_content_length, chunked, closes;
    uint64_t content_length;
};
void head_write_response(struct writer *w, unsigned status, const struct http_header *headers,
                         size_t n_headers, const struct head_framing *framing);
