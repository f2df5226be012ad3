#ifndef SEALPOST_CUTTER_H
#define SEALPOST_CUTTER_H
/*
 * Cuts an RFC 5322 message into body and attachments while it streams (FORMAT.md section 4), in
 * bounded memory and one pass. No I/O, no globals, nothing allocated after cutter_init. Input is
 * hostile; whatever cannot be understood stays in the body, and no byte is ever lost or changed:
 * the body's bytes, with each attachment's spliced in at its offset, are the input.
 */
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

#define CUTTER_MAX_ATTACHMENTS 255u
#define CUTTER_MAX_DEPTH       32u
#define CUTTER_MAX_NAME        1024u        /* file name, media type */
#define CUTTER_MAX_NAMES       (8u * 1024u) /* all of them together: further parts stay in the body */

/* Where the bytes go; each returns SP_OK or an error that ends the cutting. The pointers lead into
 * the caller's input or the cutter, and are good during the call alone. */
struct cutter_sink {
    /* Bytes of the body, in order. */
    enum sp_err (*body)(void *ctx, const uint8_t *bytes, size_t len);
    /* An attachment begins: its bytes stand at body offset splice_at (bytes of the body so far,
     * counted by the cutter from its own first byte). media_type is lower case ASCII, file_name
     * UTF-8 without path or controls; neither is NUL-terminated. */
    enum sp_err (*attachment)(void *ctx, uint64_t splice_at, const char *media_type,
                              size_t media_len, const char *file_name, size_t name_len);
    /* Bytes of the attachment that began last. */
    enum sp_err (*bytes)(void *ctx, const uint8_t *bytes, size_t len);
    /* It is over. Body bytes follow, or the end. */
    enum sp_err (*attachment_end)(void *ctx);
};

struct cutter; /* holds at most a few KiB of the message: an unfinished header field or line */

/* Bytes needed for a struct cutter, so that the caller places it in memory of its choice (8-byte
 * aligned). It holds plaintext: the caller wipes it. */
size_t cutter_size(void);
void cutter_init(struct cutter *c, const struct cutter_sink *sink, void *ctx);
/* Any cut of the input gives the same pieces. Long runs are handed on without being copied. */
enum sp_err cutter_push(struct cutter *c, const uint8_t *bytes, size_t len);
/* The end of the message: hands on what was held back, and ends an open attachment. */
enum sp_err cutter_finish(struct cutter *c);

#endif
