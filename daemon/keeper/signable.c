/* What the TLS key may sign. The one who asks may have been taken over: every byte whose value the
 * protocol fixes is compared, and the algorithm must be one that TLS would use here. */
#include "daemon/keeper/signable.h"

#include <stdbool.h>
#include <string.h>

#define RANDOMS        64u /* client's and server's, 32 bytes each */
#define CURVE_NAMED    3u  /* ECCurveType named_curve, RFC 8422 section 5.4 */
#define PADDING        64u
#define UNCOMPRESSED   4u /* first byte of a point, RFC 8422 section 5.4.1 */
#define HAS_NO_PREFIX  0u
#define MAX_ALGORITHM  16u
#define TLS12_MIN      (RANDOMS + 4u)
#define ELEMENTS(list) (sizeof(list) / sizeof((list)[0]))

/* 64 spaces, the context string, a zero: what stands before the transcript hash. */
static bool is_certificate_verify(const uint8_t *in, size_t len)
{
    static const char context[] = "TLS 1.3, server CertificateVerify"; /* and its NUL */
    if (len != PADDING + sizeof(context) + 32 && len != PADDING + sizeof(context) + 48)
        return false;
    for (size_t i = 0; i < PADDING; i++)
        if (in[i] != 0x20)
            return false;
    return memcmp(in + PADDING, context, sizeof(context)) == 0;
}

/* client_random, server_random, then ServerECDHParams: curve_type, namedcurve, a point. */
static bool is_key_exchange(const uint8_t *in, size_t len)
{
    static const struct {
        uint16_t curve;
        uint8_t point_len, prefix;
    } curves[] = {
        {29, 32, HAS_NO_PREFIX}, /* x25519 */
        {23, 65, UNCOMPRESSED},  /* secp256r1 */
        {24, 97, UNCOMPRESSED},  /* secp384r1 */
    };
    if (len <= TLS12_MIN || in[RANDOMS] != CURVE_NAMED)
        return false;
    unsigned curve = (unsigned)in[RANDOMS + 1] << 8 | in[RANDOMS + 2];
    for (size_t i = 0; i < ELEMENTS(curves); i++)
        if (curves[i].curve == curve)
            return in[RANDOMS + 3] == curves[i].point_len &&
                   len == TLS12_MIN + curves[i].point_len &&
                   (curves[i].prefix == HAS_NO_PREFIX || in[TLS12_MIN] == curves[i].prefix);
    return false;
}

enum sp_err signable_check(const uint8_t *in, size_t len, enum signable_form *form)
{
    *form = SIGNABLE_TLS13;
    if (is_certificate_verify(in, len))
        return SP_OK;
    *form = SIGNABLE_TLS12;
    return is_key_exchange(in, len) ? SP_OK : SP_ERR_DENIED;
}

/* In TLS 1.3 a curve has one digest and RSA is PSS; 1.2 lets them vary. */
static const struct {
    enum signable_key key;
    const char *algorithm, *digest;
    bool tls13;
} permitted[] = {
    {SIGNABLE_ED25519, "ED25519", "", true},   {SIGNABLE_P256, "ECDSA", "SHA256", true},
    {SIGNABLE_P256, "ECDSA", "SHA384", false}, {SIGNABLE_P256, "ECDSA", "SHA512", false},
    {SIGNABLE_P384, "ECDSA", "SHA256", false}, {SIGNABLE_P384, "ECDSA", "SHA384", true},
    {SIGNABLE_P384, "ECDSA", "SHA512", false}, {SIGNABLE_RSA, "RSA-PSS", "SHA256", true},
    {SIGNABLE_RSA, "RSA-PSS", "SHA384", true}, {SIGNABLE_RSA, "RSA-PSS", "SHA512", true},
    {SIGNABLE_RSA, "RSA", "SHA256", false},    {SIGNABLE_RSA, "RSA", "SHA384", false},
    {SIGNABLE_RSA, "RSA", "SHA512", false},
};

static bool equal(const char *text, const uint8_t *bytes, size_t len)
{
    return strlen(text) == len && memcmp(text, bytes, len) == 0;
}

enum sp_err signable_decode(struct wire_in *body, enum signable_key key,
                            struct signable_request *out)
{
    size_t algorithm_len, digest_len;
    enum signable_form form;
    *out = (struct signable_request){0};
    const uint8_t *algorithm = wire_get_b16(body, MAX_ALGORITHM, &algorithm_len);
    const uint8_t *digest = wire_get_b16(body, MAX_ALGORITHM, &digest_len);
    const uint8_t *input = wire_get_b32(body, UINT32_MAX, &out->input_len);
    if (!wire_in_done(body))
        return SP_ERR_FORMAT;
    if (signable_check(input, out->input_len, &form) != SP_OK)
        return SP_ERR_DENIED;
    for (size_t i = 0; i < ELEMENTS(permitted); i++) {
        if (permitted[i].key != key || !equal(permitted[i].algorithm, algorithm, algorithm_len) ||
            !equal(permitted[i].digest, digest, digest_len) ||
            (form == SIGNABLE_TLS13 && !permitted[i].tls13))
            continue;
        out->algorithm = permitted[i].algorithm;
        out->digest = permitted[i].digest[0] != '\0' ? permitted[i].digest : NULL;
        out->input = input;
        return SP_OK;
    }
    return SP_ERR_NO_KEY;
}
