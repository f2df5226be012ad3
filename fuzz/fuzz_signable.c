/* libs: */
/* SK_SIGN bodies: what gets through must be one of the two forms, checked here a second time. */
#include "envelope/wire.c"
#include "daemon/keeper/signable.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct signable_request request;
    struct wire_in body = wire_in(data + 1, size - 1);
    enum signable_key key = (enum signable_key)(data[0] & 3);
    if (signable_decode(&body, key, &request) != SP_OK)
        return 0;
    size_t n = request.input_len;
    bool tls13 = n == 130 || n == 146, tls12 = n == 100 || n == 133 || n == 165;
    if (tls13 == tls12 || (tls13 && memcmp(request.input + 64, "TLS 1.3, server ", 16) != 0) ||
        (tls12 && request.input[64] != 3))
        abort();
    if (tls13 && strcmp(request.algorithm, "RSA") == 0)
        abort();
    return 0;
}
