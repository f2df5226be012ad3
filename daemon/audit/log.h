#ifndef SEALPOST_AUDIT_LOG_H
#define SEALPOST_AUDIT_LOG_H
/*
 * The audit log as text: what a line is, and whether a whole log is what was written. No state, no
 * dependency but libsodium: linked into sealpostctl as well as into the role that writes.
 *
 * A line (INTERFACES, "Audit events"), hash and prev in lower-case hex:
 *     {"seq":N,"time":"...","event":"NAME",FIELDS...,"prev":"P","hash":"H"}\n
 *     H = SHA-256(the line's bytes before `,"hash":`), P = H of the line before, or 64 zeros.
 * The first line has "audit_key", the first Ed25519 public key; so has every `start`, with the key
 * that is current then. A log may lie in several files: each but the first begins with
 * `log.rotated`, which has "audit_key" and "first_key" and continues seq and prev.
 *
 * `checkpoint` has "next_key" and "signature": by the current key, over
 *     b16("sealpost/1 audit checkpoint") || P (32 bytes) || b16(the line's bytes before
 * `,"signature":`) where b16 is a u16 big-endian length and that many bytes. The key after it is
 * next_key; the one before it exists no more.
 *
 * A crash may leave an unfinished last line. The next start ends it with a newline and writes
 * `log.torn` with its length and SHA-256 right after; that line continues seq and prev of the last
 * whole one. So what does not parse is accepted before exactly that line, and nowhere else.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define AUDIT_HASH     32u
#define AUDIT_HEX      64u
#define AUDIT_LINE_MAX (32u * 1024u) /* bytes of a line with its newline */
#define AUDIT_TORN_MAX (64u * 1024u) /* bytes that a crash may leave */
/* What every reader of JSON takes (RFC 7493 section 2.2), and the most that a number may be. */
#define AUDIT_NUMBER_MAX ((UINT64_C(1) << 53) - 1)

/* One line, taken apart; the pointers lead into it. */
struct audit_line {
    uint64_t seq;
    const char *event; /* event_len bytes */
    size_t event_len;
    const char *fields; /* the bytes between event and prev: each field with its comma in front */
    size_t fields_len;
    uint8_t prev[AUDIT_HASH];
    uint8_t hash[AUDIT_HASH]; /* as it stands there, and it is right */
};

/* Takes a line without its newline apart. SP_ERR_FORMAT: not what we write; SP_ERR_AUTH: its hash
 * is not the one of its bytes. */
enum sp_err audit_line_parse(const char *line, size_t len, struct audit_line *out);
bool audit_line_is(const struct audit_line *line, const char *event);
/* The text field `name`, if it is 64 hex digits. */
bool audit_line_key(const struct audit_line *line, const char *name, uint8_t out[AUDIT_HASH]);

/* What the signature of a checkpoint is over: of a line's bytes before `,"signature":`. out: at
 * least AUDIT_SIGNED_MAX bytes. */
#define AUDIT_SIGNED_MAX 512u
enum sp_err audit_signed_bytes(const uint8_t prev[AUDIT_HASH], const char *head, size_t head_len,
                               uint8_t *out, size_t *len);

/* Reads up to the next newline, which is not part of the line. *ended: it was there.
 * SP_ERR_NOT_FOUND: the end of the file; SP_ERR_LIMIT: longer than cap; SP_ERR_SYSTEM. */
enum sp_err audit_read_line(FILE *log, char *line, size_t cap, size_t *len, bool *ended);

/* The key state file: two slots in blocks of their own, so that erasing one never touches the
 * other: u64 generation (of the first key: 1; an empty slot: 0), Ed25519 seed, zeros. Generation g
 * stands in slot g % 2. Both are in use only while a checkpoint is being written. */
#define AUDIT_SLOT_SIZE   4096u
#define AUDIT_SLOT_RECORD (8u + 32u)

/* The public keys of those private ones that the key state file has. */
struct audit_head {
    uint64_t generation[2]; /* 0: an empty slot */
    uint8_t key[2][AUDIT_HASH];
};
/* SP_ERR_FORMAT: not a key state file. */
enum sp_err audit_head_read(FILE *key_state, struct audit_head *out);
/* The slot has this key. */
bool audit_head_has(const struct audit_head *head, const uint8_t key[AUDIT_HASH]);

struct audit_report {
    uint64_t lines;       /* lines of text that were read of the last file */
    uint64_t first;       /* seq of the first good event: 1, unless earlier files are missing */
    uint64_t events;      /* seq of the last good one */
    uint64_t checkpoints; /* good ones */
    uint64_t covered;     /* seq of the newest good checkpoint: up to there a change would be found
                             even if the machine was taken over since; 0: no checkpoint yet */
    uint64_t torn;        /* unfinished lines of crashes, noted by log.torn */
    uint64_t unfinished;  /* bytes after the last whole line: being written, or torn since */
    bool reached;         /* a key of the head was the current one somewhere */
    bool at_head;         /* and is so at the end */
    size_t bad_file;      /* index of the file that has the first bad line */
    uint64_t bad_line;    /* that line, counted from 1 in its file; 0: the file as such */
    const char *why;      /* a few words on it; NULL: none */
    char first_key[AUDIT_HEX + 1];
    char current_key[AUDIT_HEX + 1]; /* will sign the next checkpoint */
};

/* The n files (one at least) of a log, oldest first. open: the i-th, or NULL, and errno says why.
 * They are opened and closed one after the other, as there may be more than a process may have
 * open. */
struct audit_files {
    FILE *(*open)(void *ctx, size_t i);
    void *ctx;
    size_t n;
};

/* Verifies a log. It begins with its first line, or, if earlier files are missing, with a
 * log.rotated, whose word is taken for what was before. first_key: 64 lower-case hex digits noted
 * elsewhere (the first public key, or the one that the first of these files begins with), or NULL
 * to take the log's word for it. head: the key state as it was before, or NULL to look for none.
 * SP_OK; else the first finding is in out: SP_ERR_FORMAT, SP_ERR_AUTH (hash, chain, signature,
 * key), SP_ERR_NOT_FOUND (a file without an event), SP_ERR_SYSTEM (opening or reading bad_file
 * failed: errno), SP_ERR_MEMORY. */
enum sp_err audit_verify(const struct audit_files *files, const char *first_key,
                         const struct audit_head *head, struct audit_report *out);
/* Compares a log that was verified with the key state as it was before and after that: a log that
 * was cut back to an older checkpoint is whole in itself, but nobody has the private key for its
 * current_key any more. While the appliance goes on, the log has reached what was before. */
bool audit_head_agrees(const struct audit_head *before, const struct audit_head *after,
                       const struct audit_report *report);

#endif
