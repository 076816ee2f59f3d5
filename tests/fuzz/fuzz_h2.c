/* Any frames after the preface of HTTP/2: whatever comes of them, a handler hears of no more
 * requests at once than were allowed, each with a sound head and the body it announces. */
#include "served.h"

#include "net/h2_connection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    serve(SPAN_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"), span_of(data, size),
          H2_STREAMS_MAX);
    return 0;
}
