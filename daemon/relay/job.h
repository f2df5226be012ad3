#ifndef SEALPOST_RELAY_JOB_H
#define SEALPOST_RELAY_JOB_H
/* What a delivery is to do, as the store says it: SD_JOB_REPLY decoded. */
#include "envelope/error.h"
#include "envelope/keys.h"
#include "storage/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOB_RECIPIENTS 500u                   /* as [web] send_recipients */
#define JOB_OWN        (1u + STORE_MAX_NAMES) /* the one that the mail is from, and all */
#define JOB_ADDRESS    512u                   /* bytes of an address with its NUL */

struct job {
    uint8_t kind; /* box kinds; 0: nothing can be opened any more */
    uint8_t message_id[ID_SIZE], recipient_id[ID_SIZE];
    uint64_t queued_ms, give_up_ms;
    uint32_t attempt;
    char from[JOB_ADDRESS];        /* as the store compares addresses */
    char from_text[JOB_ADDRESS];   /* as the orders have it */
    char destination[JOB_ADDRESS]; /* a domain, or an address literal with its brackets */
    uint8_t user_id[ID_SIZE];
    uint32_t generation;
    uint8_t puk_pk[KEY_SIZE];
    uint8_t
        report_pk[KEY_SIZE];   /* the same, as the orders have it: older, if it differs, or a lie */
    uint64_t expires_ms;       /* of a link */
    uint8_t digest[HASH_SIZE]; /* of a link's box: recipient_id is its id */
    char subject[JOB_ADDRESS]; /* of a link; kind 0: why nothing can be opened any more */
    /* What came along of a short mail (SD_JOB_REPLY), where the job was decoded from; NULL. */
    const uint8_t *letter, *piece;
    size_t letter_len, piece_len;
    size_t n_own, n;
    /* n_own and n of these are set */
    const char *own[JOB_OWN]; /* the sender's addresses, as the store compares them */
    uint16_t index[JOB_RECIPIENTS];
    const char *to[JOB_RECIPIENTS];           /* as the orders have them */
    uint8_t order[JOB_RECIPIENTS][SIGN_SIZE]; /* kinds 2 and 3: envelope/order.h */
    const char *rcpt[JOB_RECIPIENTS]; /* the same as servers are told: the domain in A-labels where
                                         that spares them SMTPUTF8 */
};

/* Asks for it; its texts live as long as the process. SP_ERR_PEER: what came is no job. Or the
 * status of the store. */
enum sp_err job_fetch(int store, struct job *job);
/* job points into bytes. */
enum sp_err job_decode(const uint8_t *bytes, size_t len, struct job *job);
/* Whether the sender may write as this address: one of its own, or one of them with a +tag, as the
 * store compares them (store_address). */
bool job_owns(const struct job *job, const char *address);

#endif
