/* Any bytes as an Authorization header: refused under a row, or what was read reads the same when
 * written anew. */
#include "proto/check.h"
#include "proto/ident.h"
#include "proto/xmatrix.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 1 << 20, OUTPUT_MAX = 4 << 20 };

static void write_parameter(struct writer *out, const char *name, struct span value)
{
    writer_bytes(out, span_str(name));
    writer_bytes(out, SPAN_LIT("=\""));
    for (size_t i = 0; i < value.size; i++) {
        writer_char(out, '\\');
        writer_char(out, value.data[i]);
    }
    writer_bytes(out, SPAN_LIT("\","));
}

static void check_again(const struct xmatrix *header, struct arena *arena)
{
    struct writer text;
    struct xmatrix again;

    writer_init(&text, OUTPUT_MAX);
    writer_bytes(&text, SPAN_LIT("x-matrix "));
    write_parameter(&text, "SIG", header->sig_text);
    write_parameter(&text, "KEY", header->key_id);
    if (header->destination.data != NULL) {
        write_parameter(&text, "Destination", header->destination);
    }
    write_parameter(&text, "Origin", header->origin);
    CHECK(xmatrix_parse(&again, arena, writer_span(&text)) == REJECT_NONE);
    CHECK(span_equal(again.origin, header->origin) && span_equal(again.key_id, header->key_id));
    CHECK((again.destination.data == NULL) == (header->destination.data == NULL));
    CHECK(header->destination.data == NULL || span_equal(again.destination, header->destination));
    CHECK(memcmp(again.signature, header->signature, sizeof again.signature) == 0);
    writer_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    struct arena arena;
    struct xmatrix header;
    struct signing_key key;

    arena_init(&arena, ARENA_CAP);
    enum reject why = xmatrix_parse(&header, &arena, text);
    CHECK(why == REJECT_NONE || why == REJECT_BAD_XMATRIX);
    if (why == REJECT_NONE) {
        CHECK(xmatrix_is_scheme(text) && server_name_is_valid(header.origin));
        check_again(&header, &arena);
    }
    CHECK(!signing_key_parse(&key, text) || key.key_id.data == key.text);
    arena_fini(&arena);
    return 0;
}
