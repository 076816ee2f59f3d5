/* Any text: a claim that parses is written back as the same bytes; base64 never overruns. */
#include "proto/base64.h"
#include "proto/check.h"
#include "proto/dlh.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIRE_MAX = 64 /* bytes */ };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    uint8_t key[DLH_KEY_SIZE];
    size_t n = 0;
    struct dlh hash;
    struct writer w;

    writer_init(&w, WIRE_MAX);
    if (dlh_parse(&hash, text)) {
        dlh_write(&w, &hash);
        CHECK(!w.failed && span_equal(writer_span(&w), text));
    }
    if (base64_decode(key, sizeof key, &n, text)) {
        writer_reset(&w);
        base64_encode(&w, key, n);
        CHECK(!w.failed && n <= sizeof key);
    }
    writer_fini(&w);
    return 0;
}
