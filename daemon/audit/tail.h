#ifndef SEALPOST_AUDIT_TAIL_H
#define SEALPOST_AUDIT_TAIL_H
/* Where an existing log stands, for the role to go on from there. */
#include "daemon/audit/log.h"

struct audit_tail {
    uint64_t seq;             /* of the last whole line; 0: there is none */
    uint64_t since;           /* events after the newest checkpoint */
    uint64_t bytes;           /* size of the file */
    uint8_t prev[AUDIT_HASH]; /* the last whole line's hash */
    uint8_t first_key[AUDIT_HASH], current_key[AUDIT_HASH];
    bool unended; /* the last byte is no newline: to be written before anything else */
    bool torn;    /* a crash left something behind the last whole line */
    uint64_t torn_bytes;
    uint8_t torn_hash[AUDIT_HASH];
};

/* Reads the first line, and back from the end to the newest checkpoint. Fails if the last whole
 * line is not ours: SP_ERR_FORMAT, SP_ERR_AUTH; *why says so. fd stays the caller's; its offset is
 * moved. */
enum sp_err audit_tail_read(int fd, struct audit_tail *out, const char **why);

#endif
