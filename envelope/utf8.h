#ifndef SEALPOST_UTF8_H
#define SEALPOST_UTF8_H
/* UTF-8, strictly (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BAD 0xffffffffu

/* The code point at s (len > 0 bytes); *used: its bytes. UTF8_BAD if it is none. */
uint32_t utf8_get(const uint8_t *s, size_t len, size_t *used);
/* Writes c to out[4]; the bytes written, 0 if c is not a code point. */
size_t utf8_put(uint32_t c, uint8_t out[4]);
/* True if all of it is valid UTF-8 and holds no control (C0, DEL, C1). */
bool utf8_is_text(const uint8_t *s, size_t len);

#endif
