/* The log being written. What is in the text of a line has been rendered from frames already; the
 * file is trusted to be ours only as far as its hashes and the key state say so. */
#include "daemon/audit/chain.h"
#include "daemon/audit/keystate.h"
#include "daemon/audit/tail.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GATHER (256u * 1024u)

struct chain {
    int fd;
    struct keystate *keys;
    uint64_t seq, since, bytes, checkpoints;
    uint8_t prev[AUDIT_HASH], first_key[AUDIT_HASH];
    bool sync;       /* the log's first line is among those gathered */
    size_t gathered; /* bytes of whole lines in buf */
    struct audit_text line;
    char buf[GATHER]; /* whole lines, then the one being made */
};

static void put_time(struct audit_text *out)
{
    struct timespec now;
    struct tm tm;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%06ldZ", now.tv_nsec / 1000);
    audit_put(out, text);
}

struct audit_text *chain_begin(struct chain *c)
{
    c->line = (struct audit_text){.at = c->buf + c->gathered, .cap = AUDIT_LINE_MAX};
    audit_put(&c->line, "{\"seq\":");
    audit_put_number(&c->line, c->seq + 1);
    audit_put(&c->line, ",\"time\":\"");
    put_time(&c->line);
    audit_put(&c->line, "\",");
    return &c->line;
}

static void put_hex_field(struct audit_text *out, const char *name, const uint8_t *bytes, size_t n)
{
    audit_put(out, ",\"");
    audit_put(out, name);
    audit_put(out, "\":\"");
    audit_put_hex(out, bytes, n);
    audit_put(out, "\"");
}

enum sp_err chain_end(struct chain *c, bool names_key)
{
    uint8_t hash[AUDIT_HASH];
    if (names_key || c->seq == 0)
        put_hex_field(&c->line, "audit_key", keystate_public(c->keys), AUDIT_HASH);
    put_hex_field(&c->line, "prev", c->prev, AUDIT_HASH);
    crypto_hash_sha256(hash, (const uint8_t *)c->line.at, c->line.len);
    put_hex_field(&c->line, "hash", hash, AUDIT_HASH);
    audit_put(&c->line, "}\n");
    if (c->line.full)
        return SP_ERR_LIMIT;
    c->sync = c->sync || c->seq == 0;
    c->seq++;
    c->since++;
    memcpy(c->prev, hash, AUDIT_HASH);
    c->gathered += c->line.len;
    return c->gathered <= GATHER - AUDIT_LINE_MAX ? SP_OK : chain_flush(c);
}

enum sp_err chain_flush(struct chain *c)
{
    size_t done = 0;
    while (done < c->gathered) {
        ssize_t n = write(c->fd, c->buf + done, c->gathered - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SP_ERR_SYSTEM;
        done += (size_t)n;
    }
    c->bytes += done;
    c->gathered = 0;
    bool sync = c->sync;
    c->sync = false;
    return sync && fdatasync(c->fd) != 0 ? SP_ERR_SYSTEM : SP_OK;
}

static enum sp_err put_checkpoint(struct chain *c, const uint8_t next[AUDIT_HASH])
{
    uint8_t message[AUDIT_SIGNED_MAX], signature[SIGN_SIZE];
    size_t len;
    struct audit_text *line = chain_begin(c);
    audit_put(line, "\"event\":\"checkpoint\"");
    put_hex_field(line, "next_key", next, AUDIT_HASH);
    enum sp_err err = audit_signed_bytes(c->prev, line->at, line->len, message, &len);
    if (err == SP_OK)
        err = keystate_sign(c->keys, message, len, signature);
    if (err != SP_OK)
        return err;
    put_hex_field(line, "signature", signature, sizeof(signature));
    return chain_end(c, false);
}

/* The order is what makes it safe to be cut off at any point: see keystate.h. */
enum sp_err chain_checkpoint(struct chain *c)
{
    uint8_t next[AUDIT_HASH];
    enum sp_err err = chain_flush(c);
    if (err == SP_OK)
        err = keystate_prepare(c->keys, next);
    if (err == SP_OK)
        err = put_checkpoint(c, next);
    if (err == SP_OK)
        err = chain_flush(c);
    if (err == SP_OK && fdatasync(c->fd) != 0)
        err = SP_ERR_SYSTEM;
    if (err == SP_OK)
        err = keystate_advance(c->keys);
    c->checkpoints++;
    c->since = 0;
    return err;
}

enum sp_err chain_rotate(struct chain *c, int fd, uint64_t *last)
{
    enum sp_err err = chain_checkpoint(c);
    if (err != SP_OK)
        return err;
    *last = c->seq;
    close(c->fd);
    c->fd = fd;
    c->bytes = 0;
    struct audit_text *line = chain_begin(c);
    audit_put(line, "\"event\":\"log.rotated\"");
    put_hex_field(line, "first_key", c->first_key, AUDIT_HASH);
    c->sync = true;
    err = chain_end(c, true);
    return err == SP_OK ? chain_flush(c) : err;
}

/* Ends the line that a crash left unfinished, and says so in the next one. If the newline alone was
 * missing there is nothing to say. */
static enum sp_err end_torn(struct chain *c, const struct audit_tail *tail)
{
    if (tail->unended)
        c->buf[c->gathered++] = '\n';
    if (!tail->torn)
        return chain_flush(c);
    struct audit_text *line = chain_begin(c);
    audit_put(line, "\"event\":\"log.torn\",\"bytes\":");
    audit_put_number(line, tail->torn_bytes);
    put_hex_field(line, "sha256", tail->torn_hash, AUDIT_HASH);
    enum sp_err err = chain_end(c, false);
    return err == SP_OK ? chain_flush(c) : err;
}

static const char *key_trouble(enum sp_err err)
{
    switch (err) {
    case SP_ERR_AUTH:
        return "the audit log and its key state do not belong together: the log was cut back or "
               "replaced; put both aside to begin a new one";
    case SP_ERR_EXISTS:
        return "the audit log is empty, but its key has signed one: put the key state aside too to "
               "begin a new one";
    default:
        return "the audit key state cannot be read or written";
    }
}

enum sp_err chain_open(int log_fd, int key_fd, struct chain **out, const char **why)
{
    struct audit_tail tail;
    *out = NULL;
    *why = "no memory";
    struct chain *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return SP_ERR_MEMORY;
    c->fd = log_fd;
    enum sp_err err = audit_tail_read(log_fd, &tail, why);
    if (err != SP_OK)
        goto out;
    c->seq = tail.seq;
    c->since = tail.since;
    c->bytes = tail.bytes;
    memcpy(c->prev, tail.prev, AUDIT_HASH);
    err = keystate_open(key_fd, tail.seq > 0 ? tail.current_key : NULL, &c->keys);
    *why = key_trouble(err);
    if (err != SP_OK)
        goto out;
    memcpy(c->first_key, tail.seq > 0 ? tail.first_key : keystate_public(c->keys), AUDIT_HASH);
    *why = "the audit log cannot be written";
    err = end_torn(c, &tail);
out:
    if (err == SP_OK)
        *out = c;
    else
        chain_free(c);
    return err;
}

void chain_free(struct chain *c)
{
    if (c == NULL)
        return;
    keystate_free(c->keys);
    free(c);
}

void chain_status(const struct chain *c, struct chain_status *out)
{
    *out = (struct chain_status){
        .events = c->seq, .bytes = c->bytes, .checkpoints = c->checkpoints, .since = c->since};
    sodium_bin2hex(out->first_key, sizeof(out->first_key), c->first_key, AUDIT_HASH);
    sodium_bin2hex(out->current_key, sizeof(out->current_key), keystate_public(c->keys),
                   AUDIT_HASH);
}
