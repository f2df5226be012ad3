#ifndef SEALPOST_LINK_H
#define SEALPOST_LINK_H
/* Links and gates (FORMAT.md section 6), and base64url without padding. */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stddef.h>
#include <stdint.h>

#define LINK_TEXT_MAX 1024u /* a whole link, with its NUL (LINK_MAX is POSIX's) */

/* Bytes of text for n bytes, without the NUL. */
#define B64U_LEN(n) (((n)*4u + 2u) / 3u)
/* out: B64U_LEN(len) + 1 bytes, NUL-terminated. */
void b64u_encode(const uint8_t *in, size_t len, char *out);
/* Exactly out_len bytes; strict: no padding, no stray bits, no other character. */
enum sp_err b64u_decode(const char *in, size_t len, uint8_t *out, size_t out_len);

struct link {
    uint8_t id[ID_SIZE];
    uint8_t password[KEY_SIZE];
    uint8_t digest[HASH_SIZE];
};
/* base_url without trailing slash; out is NUL-terminated. */
enum sp_err link_format(const char *base_url, const struct link *l, char *out, size_t cap);
/* Accepts any https (or http) base; on error l is wiped. base_url gets what stands before /m/. */
enum sp_err link_parse(const char *text, struct link *l, char *base_url, size_t cap);
enum sp_err link_gate(const uint8_t password[KEY_SIZE], uint8_t gate[HASH_SIZE]);
#endif
