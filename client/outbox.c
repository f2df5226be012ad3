/* Letters on disk. The directory is the user's; other programs of the same user may read or change
 * it: what is secret is sealed, and what was changed does not open. */
#include "client/outbox.h"
#include "client/report.h"
#include "client/secret.h"
#include "envelope/wire.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NONCE       crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG         crypto_aead_xchacha20poly1305_ietf_ABYTES
#define HEAD        5u /* magic, version: the associated data of both */
#define LETTER_FILE (16u << 20)
#define PATH_SIZE   64u

static void file_name(const char *hex, const char *end, char out[PATH_SIZE])
{
    snprintf(out, PATH_SIZE, "outbox/%s.%s", hex, end);
}

/* A letter's files without the letter, and nobody at work on them. */
static enum sp_err sweep(void *ctx, const char *name)
{
    struct state *s = ctx;
    char hex[2 * ID_SIZE + 1], path[PATH_SIZE];
    uint8_t *bytes = NULL;
    size_t len;
    int fd = -1;
    const char *dot = strchr(name, '.');
    if (dot == NULL || dot - name != 2 * ID_SIZE || strcmp(dot, ".body") != 0)
        return SP_OK;
    memcpy(hex, name, 2 * ID_SIZE);
    hex[2 * ID_SIZE] = '\0';
    file_name(hex, "letter", path);
    enum sp_err err = state_read(s, path, LETTER_FILE, &bytes, &len);
    free(bytes);
    if (err != SP_ERR_NOT_FOUND)
        return SP_OK;
    file_name(hex, "body", path);
    if (state_file(s, path, false, &fd) == SP_OK && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        state_remove(s, path);
        file_name(hex, "parts", path);
        state_remove(s, path);
    }
    if (fd >= 0)
        close(fd);
    return SP_OK;
}

static enum sp_err open_files(struct state *s, struct letter *l, bool create)
{
    char path[PATH_SIZE];
    file_name(l->hex, "body", path);
    enum sp_err err = state_file(s, path, create, &l->body_fd);
    if (err == SP_OK && flock(l->body_fd, LOCK_EX | LOCK_NB) != 0)
        err =
            errno == EWOULDBLOCK
                ? report_plain(SP_ERR_EXISTS, "message %s: another sealpost is sending it", l->hex)
                : report_fail(SP_ERR_SYSTEM, "%s/%s", state_path(s), path);
    file_name(l->hex, "parts", path);
    return err == SP_OK ? state_file(s, path, create, &l->parts_fd) : err;
}

enum sp_err outbox_begin(struct state *s, struct letter *l)
{
    enum sp_err err = state_each(s, "outbox", sweep, s);
    return err == SP_OK ? open_files(s, l, true) : err;
}

void outbox_remove(struct state *s, const struct letter *l)
{
    static const char *const ends[] = {"letter", "letter.new", "body", "parts"};
    char path[PATH_SIZE];
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        file_name(l->hex, ends[i], path);
        state_remove(s, path);
    }
}

/* Everything that is not a key; its length is bounded by the form's and the manifest's. */
static void put_rest(struct wire_out *w, const struct letter *l)
{
    wire_put_bytes(w, l->message_id, ID_SIZE);
    wire_put_str(w, l->mail_from);
    wire_put_u32(w, l->n_pieces);
    for (uint32_t i = 0; i < l->n_pieces; i++)
        wire_put_u64(w, l->piece_length[i]);
    wire_put_b32(w, l->manifest, l->manifest_len);
    wire_put_u32(w, l->n_recipients);
    for (uint32_t i = 0; i < l->n_recipients; i++) {
        wire_put_str(w, l->recipient[i].address);
        wire_put_u8(w, (uint8_t)(l->recipient[i].bcc | l->recipient[i].outside << 1));
    }
    wire_put_u32(w, l->n_readers);
    for (uint32_t i = 0; i < l->n_readers; i++) {
        const struct reader *r = &l->reader[i];
        wire_put_bytes(w, r->user_id, ID_SIZE);
        wire_put_u32(w, r->generation);
        wire_put_bytes(w, r->puk_pk, KEY_SIZE);
        wire_put_u32(w, r->n);
        for (uint32_t a = 0; a < r->n; a++)
            wire_put_u16(w, r->of[a]);
    }
    wire_put_str(w, l->subject);
    wire_put_u64(w, l->lifetime);
    wire_put_u64(w, l->expiry);
    wire_put_u32(w, l->n_links);
    for (uint32_t i = 0; i < l->n_links; i++) {
        const struct letter_link *link = &l->link[i];
        wire_put_u16(w, link->of);
        wire_put_bytes(w, link->id, ID_SIZE);
        wire_put_bytes(w, link->secret, sizeof link->secret);
        wire_put_bytes(w, link->digest, HASH_SIZE);
    }
    wire_put_u8(w, l->relay);
    wire_put_bytes(w, l->relay_id, ID_SIZE);
    wire_put_bytes(w, l->relay_pk, KEY_SIZE);
    wire_put_bytes(w, l->relay_secret, sizeof l->relay_secret);
    wire_put_u8(w, l->has_upload);
    wire_put_bytes(w, l->upload, ID_SIZE);
    wire_put_b32(w, l->form, l->form_len);
}

static enum sp_err get_recipients(struct wire_in *in, struct letter *l)
{
    uint32_t n = wire_get_u32(in), index;
    char address[ADDRLIST_MAX + 1];
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        size_t len;
        const uint8_t *at = wire_get_b16(in, ADDRLIST_MAX, &len);
        uint8_t flags = wire_get_u8(in);
        if (at == NULL || in->bad)
            return SP_ERR_FORMAT;
        memcpy(address, at, len);
        address[len] = '\0';
        enum sp_err err = letter_recipient(l, address, &index);
        if (err != SP_OK)
            return err;
        l->recipient[index].bcc = (flags & 1) != 0;
        l->recipient[index].outside = (flags & 2) != 0;
    }
    return in->bad ? SP_ERR_FORMAT : SP_OK;
}

static enum sp_err get_readers(struct wire_in *in, struct letter *l)
{
    uint32_t n = wire_get_u32(in);
    enum sp_err err = SP_OK;
    for (uint32_t i = 0; i < n && err == SP_OK && !in->bad; i++) {
        struct reader *r;
        const uint8_t *id = wire_get_bytes(in, ID_SIZE);
        uint32_t generation = wire_get_u32(in);
        const uint8_t *pk = wire_get_bytes(in, KEY_SIZE);
        if (id == NULL || pk == NULL)
            return SP_ERR_FORMAT;
        err = letter_reader(l, id, generation, pk, &r);
        uint32_t of = wire_get_u32(in);
        for (uint32_t a = 0; a < of && err == SP_OK && !in->bad; a++) {
            uint16_t index = wire_get_u16(in);
            err = index < l->n_recipients ? letter_leads_to(r, index) : SP_ERR_FORMAT;
        }
    }
    return err == SP_OK && in->bad ? SP_ERR_FORMAT : err;
}

static enum sp_err get_links(struct wire_in *in, struct letter *l)
{
    size_t len;
    const uint8_t *subject = wire_get_b16(in, LETTER_SUBJECT_MAX, &len);
    if (subject != NULL)
        memcpy(l->subject, subject, len);
    l->lifetime = wire_get_u64(in);
    l->expiry = wire_get_u64(in);
    uint32_t n = wire_get_u32(in);
    if (n > LETTER_MAX_LINKS)
        return SP_ERR_FORMAT;
    l->link = calloc(LETTER_MAX_LINKS, sizeof *l->link);
    if (l->link == NULL)
        return SP_ERR_MEMORY;
    for (l->n_links = 0; l->n_links < n && !in->bad; l->n_links++) {
        struct letter_link *link = &l->link[l->n_links];
        link->of = wire_get_u16(in);
        wire_get_copy(in, link->id, ID_SIZE);
        wire_get_copy(in, link->secret, sizeof link->secret);
        wire_get_copy(in, link->digest, HASH_SIZE);
        if (link->of >= l->n_recipients)
            return SP_ERR_FORMAT;
    }
    return in->bad ? SP_ERR_FORMAT : SP_OK;
}

static enum sp_err get_copy(struct wire_in *in, size_t max, uint8_t **out, size_t *len)
{
    const uint8_t *at = wire_get_b32(in, max, len);
    *out = malloc(*len + 1);
    if (*out == NULL)
        return SP_ERR_MEMORY;
    if (at == NULL)
        return SP_ERR_FORMAT;
    memcpy(*out, at, *len);
    return SP_OK;
}

static enum sp_err get_rest(struct letter *l, const uint8_t *bytes, size_t len)
{
    struct wire_in in = wire_in(bytes, len);
    size_t n;
    wire_get_copy(&in, l->message_id, ID_SIZE);
    const uint8_t *from = wire_get_b16(&in, ADDRLIST_MAX, &n);
    if (from != NULL)
        memcpy(l->mail_from, from, n);
    l->n_pieces = wire_get_u32(&in);
    if (l->n_pieces > ENVELOPE_MAX_PIECES)
        return SP_ERR_FORMAT;
    for (uint32_t i = 0; i < l->n_pieces; i++)
        l->piece_length[i] = wire_get_u64(&in);
    enum sp_err err = get_copy(&in, LETTER_FORM_MAX, &l->manifest, &l->manifest_len);
    if (err == SP_OK)
        err = get_recipients(&in, l);
    if (err == SP_OK)
        err = get_readers(&in, l);
    if (err == SP_OK)
        err = get_links(&in, l);
    l->relay = wire_get_u8(&in) != 0;
    wire_get_copy(&in, l->relay_id, ID_SIZE);
    wire_get_copy(&in, l->relay_pk, KEY_SIZE);
    wire_get_copy(&in, l->relay_secret, sizeof l->relay_secret);
    l->has_upload = wire_get_u8(&in) != 0;
    wire_get_copy(&in, l->upload, ID_SIZE);
    if (err == SP_OK)
        err = get_copy(&in, LETTER_FORM_MAX, &l->form, &l->form_len);
    return err == SP_OK && !wire_in_done(&in) ? SP_ERR_FORMAT : err;
}

static enum sp_err outbox_key(const struct keyring *keys, uint8_t **key)
{
    *key = secret_alloc(KEY_SIZE);
    return *key != NULL ? keys_hkdf(keys->box_sk, "sealpost/1 outbox", *key) : SP_ERR_MEMORY;
}

/* nonce || ciphertext behind what is in w already; wide: a b32, else a b16. */
static void put_sealed(struct wire_out *w, const uint8_t *key, const void *plain, size_t len,
                       bool wide)
{
    uint8_t nonce[NONCE];
    unsigned long long n = len + TAG;
    randombytes_buf(nonce, sizeof nonce);
    wire_put_bytes(w, nonce, sizeof nonce);
    if (wide)
        wire_put_u32(w, (uint32_t)n);
    else
        wire_put_u16(w, (uint16_t)n);
    if (w->full || n > w->cap - w->len) {
        w->full = true;
        return;
    }
    crypto_aead_xchacha20poly1305_ietf_encrypt(w->at + w->len, &n, plain, len, w->at, HEAD, NULL,
                                               nonce, key);
    w->len += (size_t)n;
}

enum sp_err outbox_save(struct state *s, const struct keyring *keys, const struct letter *l)
{
    char path[PATH_SIZE];
    uint8_t *key = NULL, *plain = malloc(LETTER_FILE), *out = malloc(LETTER_FILE);
    struct wire_out rest = wire_out(plain, LETTER_FILE), w = wire_out(out, LETTER_FILE);
    enum sp_err err = plain != NULL && out != NULL ? outbox_key(keys, &key) : SP_ERR_MEMORY;
    if (err == SP_OK && !l->has_upload && (fsync(l->body_fd) != 0 || fsync(l->parts_fd) != 0))
        err = SP_ERR_SYSTEM;
    if (err == SP_OK) {
        put_rest(&rest, l);
        wire_put_bytes(&w, "SPLT", 4);
        wire_put_u8(&w, 1);
        put_sealed(&w, key, l->secret, sizeof *l->secret, false);
        put_sealed(&w, key, plain, rest.len, true);
        err = wire_out_ok(&rest) && wire_out_ok(&w) ? SP_OK : SP_ERR_LIMIT;
    }
    if (err != SP_OK)
        report_fail(err, "message %s: keeping it for another try", l->hex);
    file_name(l->hex, "letter", path);
    if (err == SP_OK)
        err = state_write(s, path, out, w.len);
    secret_free(key);
    free(plain);
    free(out);
    return err;
}

/* One sealed part into out; *len bytes of it. */
static enum sp_err get_sealed(struct wire_in *in, const uint8_t *head, const uint8_t *key,
                              bool wide, uint8_t *out, size_t cap, size_t *len)
{
    unsigned long long n = 0;
    size_t sealed_len;
    const uint8_t *nonce = wire_get_bytes(in, NONCE);
    const uint8_t *sealed = wide ? wire_get_b32(in, LETTER_FILE, &sealed_len)
                                 : wire_get_b16(in, UINT16_MAX, &sealed_len);
    if (nonce == NULL || sealed == NULL || sealed_len < TAG || sealed_len - TAG > cap)
        return SP_ERR_FORMAT;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, &n, NULL, sealed, sealed_len, head, HEAD,
                                                   nonce, key) != 0)
        return SP_ERR_AUTH;
    *len = (size_t)n;
    return SP_OK;
}

static enum sp_err decode(struct letter *l, const struct keyring *keys, const uint8_t *bytes,
                          size_t len)
{
    struct wire_in in = wire_in(bytes, len);
    uint8_t *key = NULL, *plain = malloc(len + 1);
    size_t n = 0;
    const uint8_t *magic = wire_get_bytes(&in, 4);
    bool good = magic != NULL && memcmp(magic, "SPLT", 4) == 0 && wire_get_u8(&in) == 1;
    enum sp_err err = plain != NULL ? outbox_key(keys, &key) : SP_ERR_MEMORY;
    if (err == SP_OK && !good)
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = get_sealed(&in, bytes, key, false, (uint8_t *)l->secret, sizeof *l->secret, &n);
    if (err == SP_OK && n != sizeof *l->secret)
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = get_sealed(&in, bytes, key, true, plain, len, &n);
    if (err == SP_OK)
        err = get_rest(l, plain, n);
    secret_free(key);
    free(plain);
    return err;
}

enum sp_err outbox_load(struct state *s, const struct keyring *keys, const char *hex,
                        struct letter **out)
{
    char path[PATH_SIZE], id[2 * ID_SIZE + 1];
    uint8_t *bytes;
    size_t len;
    *out = NULL;
    file_name(hex, "letter", path);
    enum sp_err err = state_read(s, path, LETTER_FILE, &bytes, &len);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(err, "no unfinished message %s", hex);
    if (err != SP_OK)
        return err;
    struct letter *l = letter_new();
    err = l != NULL ? decode(l, keys, bytes, len) : SP_ERR_MEMORY;
    if (err == SP_OK && (l->n_readers == 0 ||
                         strcmp(hex, sodium_bin2hex(id, sizeof id, l->message_id, ID_SIZE)) != 0))
        err = SP_ERR_FORMAT;
    if (err != SP_OK) {
        report_fail(err, "the unfinished message %s/%s", state_path(s), path);
    } else {
        memcpy(l->hex, id, sizeof id);
        err = open_files(s, l, false);
    }
    free(bytes);
    if (err == SP_OK)
        *out = l;
    else
        letter_free(l);
    return err;
}

struct walk {
    enum sp_err (*each)(void *ctx, const char *hex);
    void *ctx;
};

static enum sp_err on_file(void *ctx, const char *name)
{
    struct walk *w = ctx;
    char hex[2 * ID_SIZE + 1];
    if (strlen(name) != 2 * ID_SIZE + 7 || strcmp(name + 2 * ID_SIZE, ".letter") != 0)
        return SP_OK;
    memcpy(hex, name, 2 * ID_SIZE);
    hex[2 * ID_SIZE] = '\0';
    return w->each(w->ctx, hex);
}

enum sp_err outbox_each(struct state *s, enum sp_err (*each)(void *ctx, const char *hex), void *ctx)
{
    struct walk w = {.each = each, .ctx = ctx};
    return state_each(s, "outbox", on_file, &w);
}
