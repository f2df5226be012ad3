#ifndef SEALPOST_STORAGE_SESSIONS_H
#define SEALPOST_STORAGE_SESSIONS_H
/*
 * Login challenges and session tokens (docs/api.md): random, in this process's memory alone, in
 * tables of fixed size. A value's own first bytes say where it stands, so that finding it is one
 * constant-time comparison; where a table is full, a new value takes the place of an older one. One
 * user has 32 sessions at most: his newest takes the place of his oldest.
 * Times are milliseconds of any clock that does not go back.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdint.h>

#define SESSION_TOKEN     32u
#define SESSION_SECONDS   900u
#define CHALLENGE_SECONDS 60u
#define ENROL_CODE_BYTES  15u /* 120 bits */
#define ENROL_CODE_TEXT   30u /* six groups of four characters, with NUL */

struct sessions;
struct session {
    uint8_t token[SESSION_TOKEN];
    uint64_t user; /* number in the store; 0: a free place */
    uint8_t user_id[ID_SIZE], device_id[ID_SIZE];
    uint64_t until_ms;
};

struct sessions *sessions_new(void);
void sessions_free(struct sessions *t); /* wipes */

void sessions_challenge(struct sessions *t, uint64_t now_ms, uint8_t challenge[SESSION_TOKEN]);
/* Uses it up. SP_ERR_AUTH: unknown, used, or over. */
enum sp_err sessions_redeem(struct sessions *t, uint64_t now_ms,
                            const uint8_t challenge[SESSION_TOKEN]);
/* Opens a session for who (token and until_ms are set here); the result is who's place in the
 * table. */
const struct session *sessions_open(struct sessions *t, uint64_t now_ms, const struct session *who);
/* The session of a token, prolonged; NULL: there is none. */
const struct session *sessions_find(struct sessions *t, uint64_t now_ms,
                                    const uint8_t token[SESSION_TOKEN]);
void sessions_close(struct sessions *t, const uint8_t token[SESSION_TOKEN]);
/* Ends all sessions of a user, or of one device of his. */
void sessions_revoke(struct sessions *t, uint64_t user, const uint8_t *device_id);

/* Enrolment codes: base32 (RFC 4648 section 6) in groups, "ABCD-EFGH-...". */
void enrol_code_make(char text[ENROL_CODE_TEXT]);
/* What is stored of a code; case, hyphens and spaces do not matter. High entropy makes a plain hash
 * enough. SP_ERR_FORMAT: not a code. */
enum sp_err enrol_code_hash(const void *text, size_t len, uint8_t hash[HASH_SIZE]);

#endif
