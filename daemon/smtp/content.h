#ifndef SEALPOST_SMTP_CONTENT_H
#define SEALPOST_SMTP_CONTENT_H
/*
 * Reads the content of a message off the network, strictly (RFC 5321 2.3.8, 4.1.1.4 and 4.5.2; RFC
 * 3030). Only CRLF ends a line and only CRLF.CRLF ends DATA; a bare CR, a bare LF or a NUL refuses
 * the message, but reading goes on to its true end, so that its tail is never taken for commands
 * (SMTP smuggling, CVE-2023-51764, -51765, -51766). Holds no byte of the content, allocates
 * nothing.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum content_mode {
    CONTENT_DATA, /* ends at CRLF.CRLF (or at .CRLF right at the start); one leading dot is undone
                   */
    CONTENT_BDAT, /* no end and no dots of its own: the caller counts the chunk's bytes */
};

struct content {
    enum content_mode mode;
    int state; /* enum content_state of content.c */
    const char *refused;
    uint64_t bytes;
};

/* A run of content; the pointer leads into the caller's input. An error ends the reading. */
typedef enum sp_err content_sink(void *ctx, const uint8_t *bytes, size_t len);

/* One struct a message: under BDAT it goes on over all of its chunks. */
void content_init(struct content *c, enum content_mode mode);

/* Reads on. *used: input bytes consumed, all of them unless *done. *done (DATA alone): the final
 * dot was read, and what follows *used belongs to the next command. Any cut of the input gives the
 * same content. Once refused, the sink is called no more, but *used, *done and the count go on, and
 * the result stays SP_OK. Returns what the sink returned, or SP_ERR_STATE after the end. */
enum sp_err content_push(struct content *c, const uint8_t *in, size_t len, size_t *used, bool *done,
                         content_sink *sink, void *ctx);

/* The last BDAT chunk is over: a CR that is still waiting for its LF is a bare one. Ask
 * content_refused() after it. Does nothing under DATA. */
void content_end(struct content *c);

/* The caller's own reason to refuse ("size"): the same silence follows. The first reason stays.
 * why must be a string literal. */
void content_refuse(struct content *c, const char *why);

/* NULL, or a word for the log: "bare-cr", "bare-lf", "nul", or the caller's own. */
const char *content_refused(const struct content *c);

/* Bytes of content so far (dots undone, the final dot line not counted), refused or not. A sink
 * that is being called sees the count before its run. */
uint64_t content_bytes(const struct content *c);

#endif
