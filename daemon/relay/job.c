/* Decodes a job. It comes from the store, which made it of what a client said: the store is
 * trusted, the client's words are addresses and nothing else. */
#include "daemon/relay/job.h"
#include "daemon/domain.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/relay/edge.h"
#include "envelope/envelope.h"
#include "storage/store.h"

#include <string.h>

static char texts[IPC_MAX_PAYLOAD];  /* all addresses, each with a NUL */
static char others[IPC_MAX_PAYLOAD]; /* and those that servers are told in another form */

/* A b16 text into texts; an address is never longer than its field and the length before it. */
static const char *keep_text(struct wire_in *in, size_t *used)
{
    char *at = texts + *used;
    size_t room = sizeof(texts) - *used;
    edge_get_text(in, at, room < JOB_ADDRESS ? room : JOB_ADDRESS);
    *used += strlen(at) + 1;
    return at;
}

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((uint8_t)text[i] & 0x80) != 0)
            return false;
    return true;
}

/* With the domain in A-labels, if nothing else is in the way of ASCII. */
static const char *ascii_form(const char *address, size_t *used)
{
    char domain[DOMAIN_MAX + 1];
    const char *at = strrchr(address, '@');
    size_t local = at != NULL ? (size_t)(at + 1 - address) : 0;
    if (at == NULL || is_ascii(at, strlen(at)) || !is_ascii(address, local) ||
        domain_to_ascii(at + 1, domain) != SP_OK)
        return address;
    size_t len = strlen(domain) + 1;
    if (local + len > sizeof(others) - *used)
        return address;
    char *out = others + *used;
    memcpy(out, address, local);
    memcpy(out + local, domain, len);
    *used += local + len;
    return out;
}

/* As long as those of its kind are; one that is not opened any more needs none. */
static void get_order(struct wire_in *in, uint8_t kind, uint8_t out[SIGN_SIZE])
{
    size_t len, n = kind == BOX_RELAY ? SIGN_SIZE : HASH_SIZE;
    const uint8_t *order = wire_get_b16(in, SIGN_SIZE, &len);
    if (kind != 0 && len != n)
        wire_in_fail(in);
    if (!in->bad)
        memcpy(out, order, len);
}

static void get_from(struct wire_in *in, struct job *job)
{
    char from[STORE_MAX_ADDRESS];
    edge_get_text(in, job->from_text, sizeof(job->from_text));
    if (store_address(job->from_text, strlen(job->from_text), false, from) != SP_OK)
        wire_in_fail(in);
    memcpy(job->from, from, strlen(from) + 1);
}

enum sp_err job_decode(const uint8_t *bytes, size_t len, struct job *job)
{
    struct wire_in in = wire_in(bytes, len);
    size_t used = 0, used_others = 0;
    memset(job, 0, offsetof(struct job, own));
    job->kind = wire_get_u8(&in);
    wire_get_copy(&in, job->message_id, ID_SIZE);
    wire_get_copy(&in, job->recipient_id, ID_SIZE);
    job->queued_ms = wire_get_u64(&in);
    job->give_up_ms = wire_get_u64(&in);
    job->attempt = wire_get_u32(&in);
    get_from(&in, job);
    edge_get_text(&in, job->destination, sizeof(job->destination));
    wire_get_copy(&in, job->user_id, ID_SIZE);
    job->generation = wire_get_u32(&in);
    wire_get_copy(&in, job->puk_pk, KEY_SIZE);
    wire_get_copy(&in, job->report_pk, KEY_SIZE);
    job->expires_ms = wire_get_u64(&in);
    edge_get_text(&in, job->subject, sizeof(job->subject));
    if (job->kind == BOX_PASSWORD)
        wire_get_copy(&in, job->digest, HASH_SIZE);
    job->n_own = wire_get_u16(&in);
    if (job->n_own > JOB_OWN)
        wire_in_fail(&in);
    for (size_t i = 0; !in.bad && i < job->n_own; i++)
        job->own[i] = keep_text(&in, &used);
    job->n = wire_get_u16(&in);
    if (job->n == 0 || job->n > JOB_RECIPIENTS)
        wire_in_fail(&in);
    for (size_t i = 0; !in.bad && i < job->n; i++) {
        job->index[i] = wire_get_u16(&in);
        job->to[i] = keep_text(&in, &used);
        get_order(&in, job->kind, job->order[i]);
        job->rcpt[i] = ascii_form(job->to[i], &used_others);
    }
    if (!in.bad && in.left > 0) {
        job->letter = wire_get_b32(&in, in.left, &job->letter_len);
        job->piece = wire_get_b32(&in, in.left, &job->piece_len);
    }
    if (wire_in_done(&in))
        return SP_OK;
    memset(job, 0, offsetof(struct job, own));
    return SP_ERR_FORMAT;
}

enum sp_err job_fetch(int store, struct job *job)
{
    static uint8_t buf[IPC_HEADER + IPC_MAX_PAYLOAD];
    uint8_t frame[IPC_HEADER];
    const struct wire_out nothing = {.at = frame + IPC_HEADER};
    struct wire_in reply;
    enum sp_err err = edge_ask(store, SD_JOB, frame, &nothing, buf, sizeof(buf), &reply);
    if (err == SP_OK && job_decode(reply.at, reply.left, job) != SP_OK)
        err = SP_ERR_PEER;
    return err;
}

static bool is_own(const struct job *job, const char *address)
{
    char own[STORE_MAX_ADDRESS];
    for (size_t i = 0; i < job->n_own; i++)
        if (store_address(job->own[i], strlen(job->own[i]), false, own) == SP_OK &&
            strcmp(own, address) == 0)
            return true;
    return false;
}

bool job_owns(const struct job *job, const char *address)
{
    char folded[STORE_MAX_ADDRESS], base[STORE_MAX_ADDRESS];
    if (store_address(address, strlen(address), false, folded) != SP_OK)
        return false;
    return is_own(job, folded) || (store_address_base(folded, base) && is_own(job, base));
}
