#ifndef SEALPOST_CLIENT_INTAKE_H
#define SEALPOST_CLIENT_INTAKE_H
/* A message from a descriptor, with lines ended as the network wants them: LF becomes CRLF, CRLF
 * stays, the last line gets its end. Plaintext is in locked memory, two buffers of 64 KiB. */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct intake {
    bool dots;     /* a line with a lone dot is text; else it ends the message (sendmail's -i) */
    uint64_t line; /* that is being read, from 1: where an error stands */
};

/* Hands on everything in order. SP_ERR_FORMAT: a CR without LF behind it, which no two mail systems
 * take for the same; SP_ERR_SYSTEM; SP_ERR_MEMORY; else what write returns. */
enum sp_err intake_run(struct intake *in, int fd,
                       enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len),
                       void *ctx);

#endif
