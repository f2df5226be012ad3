/* Verifies an audit log. Every byte of it may have been forged, by one who holds the current
 * signing key too: what was signed with keys that were erased since cannot be made to fit again. */
#include "daemon/audit/log.h"
#include "envelope/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define LABEL     "sealpost/1 audit checkpoint"
#define TIME_LEN  27u /* 2026-01-31T23:59:59.123456Z */
#define HASH_TAIL (sizeof(",\"hash\":\"") - 1 + AUDIT_HEX + 2)

/* --- one line --- */

struct cursor {
    const char *at;
    size_t left;
};

static bool take(struct cursor *c, const char *text)
{
    size_t n = strlen(text);
    if (c->left < n || memcmp(c->at, text, n) != 0)
        return false;
    c->at += n;
    c->left -= n;
    return true;
}

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static int hex_value(char ch)
{
    return is_digit(ch) ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static bool take_number(struct cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;
    for (; n < c->left && is_digit(c->at[n]); n++) {
        unsigned digit = (unsigned)(c->at[n] - '0');
        if ((n > 0 && c->at[0] == '0') || v > (AUDIT_NUMBER_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    c->at += n;
    c->left -= n;
    *out = v;
    return n > 0;
}

/* Lower-case hex of exactly n bytes. */
static bool take_hex(struct cursor *c, uint8_t *out, size_t n)
{
    if (c->left < 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = hex_value(c->at[2 * i]), low = hex_value(c->at[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    c->at += 2 * n;
    c->left -= 2 * n;
    return true;
}

static bool take_time(struct cursor *c)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    if (c->left < TIME_LEN)
        return false;
    for (size_t i = 0; i < TIME_LEN; i++)
        if (form[i] == 'd' ? !is_digit(c->at[i]) : c->at[i] != form[i])
            return false;
    c->at += TIME_LEN;
    c->left -= TIME_LEN;
    return true;
}

/* A name of a field or an event, up to its closing quote. */
static bool take_name(struct cursor *c, const char **name, size_t *len)
{
    size_t n = 0;
    while (n < c->left && ((c->at[n] >= 'a' && c->at[n] <= 'z') || is_digit(c->at[n]) ||
                           (c->at[n] != '\0' && strchr("._-", c->at[n]) != NULL)))
        n++;
    *name = c->at;
    *len = n;
    c->at += n;
    c->left -= n;
    return n > 0 && take(c, "\"");
}

/* A string up to its closing quote, with those escapes alone that render.c writes. */
static bool take_text(struct cursor *c)
{
    uint8_t code[2];
    while (c->left > 0 && *c->at != '"') {
        if ((uint8_t)*c->at < 0x20)
            return false;
        if (*c->at != '\\') {
            c->at++;
            c->left--;
        } else if (!take(c, "\\\"") && !take(c, "\\\\") &&
                   !(take(c, "\\u") && take_hex(c, code, 2))) {
            return false;
        }
    }
    return take(c, "\"");
}

/* A field without its comma: name and where its value stands. */
static bool take_field(struct cursor *c, const char **name, size_t *len, struct cursor *value)
{
    uint64_t number;
    if (!take(c, "\"") || !take_name(c, name, len) || !take(c, ":"))
        return false;
    *value = *c;
    return take(c, "\"") ? take_text(c) : take_number(c, &number);
}

static bool parse(struct cursor c, struct audit_line *out)
{
    const char *name;
    size_t len;
    struct cursor value;
    if (!take(&c, "{\"seq\":") || !take_number(&c, &out->seq) || !take(&c, ",\"time\":\"") ||
        !take_time(&c) || !take(&c, "\",\"event\":\"") ||
        !take_name(&c, &out->event, &out->event_len))
        return false;
    out->fields = c.at;
    for (struct cursor before = c; take(&c, ","); before = c) {
        out->fields_len = (size_t)(before.at - out->fields);
        if (take(&c, "\"prev\":\""))
            return take_hex(&c, out->prev, AUDIT_HASH) && take(&c, "\",\"hash\":\"") &&
                   take_hex(&c, out->hash, AUDIT_HASH) && take(&c, "\"}") && c.left == 0;
        if (!take_field(&c, &name, &len, &value))
            return false;
    }
    return false;
}

enum sp_err audit_line_parse(const char *line, size_t len, struct audit_line *out)
{
    uint8_t hash[AUDIT_HASH];
    *out = (struct audit_line){0};
    if (len >= AUDIT_LINE_MAX || !parse((struct cursor){line, len}, out))
        return SP_ERR_FORMAT;
    crypto_hash_sha256(hash, (const uint8_t *)line, len - HASH_TAIL);
    return memcmp(hash, out->hash, AUDIT_HASH) == 0 ? SP_OK : SP_ERR_AUTH;
}

bool audit_line_is(const struct audit_line *line, const char *event)
{
    return line->event_len == strlen(event) && memcmp(line->event, event, line->event_len) == 0;
}

/* Where the value of a field stands, up to the end of all fields. */
static bool find_field(const struct audit_line *line, const char *name, struct cursor *value)
{
    struct cursor c = {line->fields, line->fields_len};
    const char *found;
    size_t len;
    while (take(&c, ",") && take_field(&c, &found, &len, value))
        if (len == strlen(name) && memcmp(found, name, len) == 0)
            return true;
    return false;
}

static bool hex_field(const struct audit_line *line, const char *name, uint8_t *out, size_t n)
{
    struct cursor value;
    return find_field(line, name, &value) && take(&value, "\"") && take_hex(&value, out, n) &&
           take(&value, "\"");
}

bool audit_line_key(const struct audit_line *line, const char *name, uint8_t out[AUDIT_HASH])
{
    return hex_field(line, name, out, AUDIT_HASH);
}

enum sp_err audit_signed_bytes(const uint8_t prev[AUDIT_HASH], const char *head, size_t head_len,
                               uint8_t *out, size_t *len)
{
    struct wire_out w = wire_out(out, AUDIT_SIGNED_MAX);
    wire_put_str(&w, LABEL);
    wire_put_bytes(&w, prev, AUDIT_HASH);
    wire_put_b16(&w, head, head_len);
    *len = w.len;
    return wire_out_ok(&w) ? SP_OK : SP_ERR_LIMIT;
}

enum sp_err audit_read_line(FILE *log, char *line, size_t cap, size_t *len, bool *ended)
{
    int ch = EOF;
    *len = 0;
    *ended = false;
    while (*len < cap && (ch = getc_unlocked(log)) != EOF && ch != '\n')
        line[(*len)++] = (char)ch;
    *ended = ch == '\n';
    if (ferror(log))
        return SP_ERR_SYSTEM;
    if (*ended)
        return SP_OK;
    if (ch != EOF)
        return SP_ERR_LIMIT;
    return *len > 0 ? SP_OK : SP_ERR_NOT_FOUND;
}

/* --- a whole log --- */

struct check {
    struct audit_report *report;
    const char *text; /* the line at hand */
    uint8_t prev[AUDIT_HASH], key[AUDIT_HASH];
    /* What did not parse since the last good line. */
    crypto_hash_sha256_state torn_hash;
    uint64_t torn_bytes, torn_line;
    const struct audit_head *head;
    size_t file;
    bool begun; /* the file has an event */
};

static enum sp_err finding(struct check *c, uint64_t line, enum sp_err err, const char *why)
{
    c->report->bad_file = c->file;
    c->report->bad_line = line;
    c->report->why = why;
    return err;
}

static enum sp_err bad(struct check *c, enum sp_err err, const char *why)
{
    return finding(c, c->report->lines, err, why);
}

static void add_torn(struct check *c, const char *bytes, size_t len)
{
    if (c->torn_line == 0) {
        crypto_hash_sha256_init(&c->torn_hash);
        c->torn_line = c->report->lines;
    } else {
        crypto_hash_sha256_update(&c->torn_hash, (const uint8_t *)"\n", 1);
        c->torn_bytes++;
    }
    crypto_hash_sha256_update(&c->torn_hash, (const uint8_t *)bytes, len);
    c->torn_bytes += len;
}

/* log.torn stands right after what it names, and nowhere else. */
static enum sp_err check_torn(struct check *c, const struct audit_line *line)
{
    uint8_t hash[AUDIT_HASH], noted[AUDIT_HASH];
    struct cursor value;
    uint64_t bytes;
    bool note = audit_line_is(line, "log.torn");
    if (c->torn_line == 0)
        return note ? bad(c, SP_ERR_FORMAT, "notes a torn line that is not there") : SP_OK;
    if (!note)
        return finding(c, c->torn_line, SP_ERR_FORMAT, "is not a line of an audit log");
    crypto_hash_sha256_final(&c->torn_hash, hash);
    if (!find_field(line, "bytes", &value) || !take_number(&value, &bytes) ||
        !audit_line_key(line, "sha256", noted) || bytes != c->torn_bytes ||
        memcmp(hash, noted, sizeof(hash)) != 0)
        return finding(c, c->torn_line, SP_ERR_AUTH, "is not what the crash had left");
    c->torn_line = 0;
    c->torn_bytes = 0;
    c->report->torn++;
    return SP_OK;
}

static void use_key(struct check *c, const uint8_t key[AUDIT_HASH])
{
    memcpy(c->key, key, AUDIT_HASH);
    c->report->at_head = c->head != NULL && audit_head_has(c->head, key);
    c->report->reached |= c->report->at_head;
}

static enum sp_err check_checkpoint(struct check *c, const struct audit_line *line)
{
    uint8_t next[AUDIT_HASH], signature[crypto_sign_BYTES], message[AUDIT_SIGNED_MAX];
    static const char before[] = ",\"signature\":";
    size_t len;
    struct cursor value;
    if (!audit_line_key(line, "next_key", next) ||
        !hex_field(line, "signature", signature, sizeof(signature)) ||
        !find_field(line, "signature", &value))
        return bad(c, SP_ERR_FORMAT, "is a checkpoint without key or signature");
    size_t head = (size_t)(value.at - c->text) - (sizeof(before) - 1);
    if (audit_signed_bytes(line->prev, c->text, head, message, &len) != SP_OK)
        return bad(c, SP_ERR_FORMAT, "is a checkpoint that is too long");
    if (crypto_sign_verify_detached(signature, message, len, c->key) != 0)
        return bad(c, SP_ERR_AUTH, "is a checkpoint whose signature is wrong");
    use_key(c, next);
    c->report->checkpoints++;
    c->report->covered = line->seq;
    return SP_OK;
}

/* The first line says the first key, each start and each new file repeats the current one. */
static enum sp_err check_key(struct check *c, const struct audit_line *line)
{
    uint8_t key[AUDIT_HASH];
    if (line->seq == c->report->first) {
        if (!audit_line_key(line, "audit_key", key))
            return bad(c, SP_ERR_FORMAT, "is the first line and names no key");
        use_key(c, key);
        sodium_bin2hex(c->report->first_key, AUDIT_HEX + 1, c->key, AUDIT_HASH);
    }
    if ((audit_line_is(line, "start") || audit_line_is(line, "log.rotated")) &&
        (!audit_line_key(line, "audit_key", key) || memcmp(key, c->key, sizeof(key)) != 0))
        return bad(c, SP_ERR_AUTH, "starts with a key that is not the current one");
    return SP_OK;
}

/* Where the files at hand begin: at the very first line, or at that of a file that followed
 * another. */
static void begin(struct check *c, const struct audit_line *line)
{
    if (c->report->first != 0)
        return;
    c->report->first = 1;
    if (line->seq <= 1 || !audit_line_is(line, "log.rotated"))
        return;
    c->report->first = line->seq;
    c->report->events = line->seq - 1;
    memcpy(c->prev, line->prev, AUDIT_HASH);
}

static enum sp_err check_event(struct check *c, const struct audit_line *line)
{
    begin(c, line);
    if (line->seq != c->report->events + 1)
        return bad(c, SP_ERR_AUTH, "does not follow the line before (seq)");
    if (memcmp(line->prev, c->prev, AUDIT_HASH) != 0)
        return bad(c, SP_ERR_AUTH, "does not follow the line before (prev)");
    if (!c->begun && c->file > 0 && !audit_line_is(line, "log.rotated"))
        return bad(c, SP_ERR_FORMAT, "begins a file that follows another, and is no log.rotated");
    enum sp_err err = check_torn(c, line);
    if (err == SP_OK)
        err = check_key(c, line);
    if (err == SP_OK && audit_line_is(line, "checkpoint"))
        err = check_checkpoint(c, line);
    if (err != SP_OK)
        return err;
    c->begun = true;
    c->report->events = line->seq;
    memcpy(c->prev, line->hash, AUDIT_HASH);
    return SP_OK;
}

static enum sp_err check_line(struct check *c, size_t len)
{
    struct audit_line line;
    enum sp_err err = audit_line_parse(c->text, len, &line);
    if (err == SP_ERR_AUTH)
        return bad(c, err, "was changed: its hash is not the one of its bytes");
    if (err == SP_OK)
        return check_event(c, &line);
    add_torn(c, c->text, len);
    return c->torn_bytes <= AUDIT_TORN_MAX ? SP_OK : bad(c, err, "is not a line of an audit log");
}

/* How a log.torn begins that was being written when the next crash came. */
static bool is_note_begun(const struct check *c, const char *bytes, size_t len)
{
    char note[64];
    int n = snprintf(note, sizeof(note), "{\"seq\":%" PRIu64 ",\"time\":\"", c->report->events + 1);
    return memcmp(bytes, note, len < (size_t)n ? len : (size_t)n) == 0;
}

/* Bytes without a newline at the very end: being written now, or left by a crash, and the next
 * start will note them. Whole lines before them that are none of a log may only be what an earlier
 * crash left, whose note is being written. */
static enum sp_err check_unfinished(struct check *c, size_t len)
{
    struct audit_line line;
    if (audit_line_parse(c->text, len, &line) == SP_ERR_AUTH) /* no crash leaves that */
        return bad(c, SP_ERR_AUTH, "was changed: its hash is not the one of its bytes");
    if (c->torn_line != 0 && !is_note_begun(c, c->text, len))
        return finding(c, c->torn_line, SP_ERR_FORMAT, "is not a line of an audit log");
    c->report->unfinished = c->torn_bytes + (c->torn_line != 0) + len;
    c->torn_line = 0;
    return SP_OK;
}

static enum sp_err check_text(struct check *c, FILE *log, bool last, char *buf)
{
    size_t len;
    bool ended;
    enum sp_err err;
    while ((err = audit_read_line(log, buf, AUDIT_TORN_MAX, &len, &ended)) == SP_OK) {
        c->report->lines++;
        if (!ended && !last)
            return bad(c, SP_ERR_FORMAT, "ends in the middle, and another file follows");
        if (!ended)
            return check_unfinished(c, len);
        err = check_line(c, len);
        if (err != SP_OK)
            return err;
    }
    c->report->lines += err == SP_ERR_LIMIT;
    if (err == SP_ERR_LIMIT)
        return bad(c, SP_ERR_FORMAT, "is longer than a line can be");
    return err == SP_ERR_NOT_FOUND ? SP_OK : finding(c, 0, err, NULL);
}

static enum sp_err check_file(struct check *c, FILE *log, bool last, char *buf)
{
    if (log == NULL)
        return finding(c, 0, SP_ERR_SYSTEM, NULL);
    c->text = buf;
    c->report->lines = 0;
    c->begun = false;
    enum sp_err err = check_text(c, log, last, buf);
    int reason = errno;
    fclose(log);
    errno = reason;
    if (err == SP_OK && c->torn_line != 0)
        err = finding(c, c->torn_line, SP_ERR_FORMAT, "is not a line of an audit log");
    if (err == SP_OK && !c->begun)
        err = finding(c, 0, SP_ERR_NOT_FOUND, "holds no event");
    return err;
}

enum sp_err audit_verify(const struct audit_files *files, const char *first_key,
                         const struct audit_head *head, struct audit_report *out)
{
    struct check c = {.report = out, .head = head};
    *out = (struct audit_report){0};
    if (sodium_init() < 0)
        return SP_ERR_CRYPTO;
    char *buf = malloc(AUDIT_TORN_MAX);
    if (buf == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = SP_OK;
    for (c.file = 0; err == SP_OK && c.file < files->n; c.file++)
        err = check_file(&c, files->open(files->ctx, c.file), c.file + 1 == files->n, buf);
    c.file = 0;
    if (out->events > 0)
        sodium_bin2hex(out->current_key, sizeof(out->current_key), c.key, sizeof(c.key));
    if (err == SP_OK && first_key != NULL && strcmp(first_key, out->first_key) != 0)
        err = finding(&c, 1, SP_ERR_AUTH, "begins with another key than the one noted elsewhere");
    free(buf);
    return err;
}
