#ifndef SEALPOST_RESOLVER_H
#define SEALPOST_RESOLVER_H
/*
 * The resolver's parts, private to daemon/resolver/: resolver.c knows deliveries and the role,
 * senders.c sessions, questions.c what they have asked and not heard yet.
 */
#include "daemon/ipc.h"
#include "daemon/role.h"

#include <sys/queue.h>

struct context;
struct question;

#define QUESTION_NAME_MAX 255u  /* bytes of a name in a frame */
#define QUESTIONS_EACH    4u    /* outstanding, of one delivery: one more ends its channel */
#define QUESTIONS_MAX     2048u /* outstanding of all: one more is answered "try later" */
#define QUESTION_SECONDS  15    /* then it is answered from what there is */
/* Of them, sessions': one more is answered "nobody knows". */
#define QUESTIONS_OF_SESSIONS 512u
/* So many of theirs in a row without any answer: the servers are down, and one of them at a time
 * is enough to find out when they are back, while the others need not wait. */
#define QUESTIONS_UNHEARD 8u

/* A delivery, or a session. */
struct asker {
    LIST_ENTRY(asker) next;
    LIST_HEAD(, question) questions; /* not yet answered */
    unsigned n_questions, at_once;   /* outstanding; at most so many, one more ends its channel */
    unsigned asked;                  /* a session, since it began */
    uint32_t id;
    struct ipc_peer *channel;
};

enum question_kind { QUESTION_MX, QUESTION_ADDRESS, QUESTION_SENDER };

struct question_counts {
    uint64_t asked, waiting, secure, bogus, failed;
    uint64_t of_sessions, unheard; /* of those waiting; see QUESTIONS_UNHEARD */
};

/* Whom to ask from now on: the caller's, who must not free it as long as it is used or owes an
 * answer (context.h). */
void questions_use(struct event_base *base, struct context *context);
/* Takes an RD_MX, RD_ADDRESS or RD_SENDER; the reply goes out now or later. An error is the end of
 * the asker's channel. */
enum sp_err questions_ask(struct asker *d, enum question_kind kind, struct ipc_frame *frame);
/* Nobody waits for d's questions any more. libunbound still answers them (its ub_cancel() is not
 * made for event loops), and they count until it has: for some seconds. */
void questions_orphan(struct asker *d);
struct question_counts questions_counts(void);

#endif
