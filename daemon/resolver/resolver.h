#ifndef SEALPOST_RESOLVER_H
#define SEALPOST_RESOLVER_H
/*
 * The resolver's two halves, private to daemon/resolver/: resolver.c knows deliveries and the role,
 * questions.c what they have asked and not heard yet.
 */
#include "daemon/ipc.h"
#include "daemon/role.h"

#include <sys/queue.h>

struct ub_ctx;
struct question;

#define QUESTION_NAME_MAX 255u  /* bytes of a name in a frame */
#define QUESTIONS_EACH    4u    /* outstanding, of one delivery: one more ends its channel */
#define QUESTIONS_MAX     2048u /* outstanding of all: one more is answered "try later" */
#define QUESTION_SECONDS  15    /* then it is answered from what there is */

struct delivery {
    LIST_ENTRY(delivery) next;
    LIST_HEAD(, question) questions; /* not yet answered */
    unsigned n_questions;
    uint32_t id;
    struct ipc_peer *channel;
};

enum question_kind { QUESTION_MX, QUESTION_ADDRESS };

struct question_counts {
    uint64_t asked, waiting, secure, bogus, failed;
};

enum sp_err questions_init(struct event_base *base, struct ub_ctx *ub);
/* Takes an RD_MX or RD_ADDRESS; the reply goes out now or later. An error is the end of the
 * delivery's channel. */
enum sp_err questions_ask(struct delivery *d, enum question_kind kind, struct ipc_frame *frame);
/* Nobody waits for d's questions any more. libunbound still answers them (its ub_cancel() is not
 * made for event loops), and they count until it has: for some seconds. */
void questions_orphan(struct delivery *d);
struct question_counts questions_counts(void);

#endif
