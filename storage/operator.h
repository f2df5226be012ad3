#ifndef SEALPOST_STORAGE_OPERATOR_H
#define SEALPOST_STORAGE_OPERATOR_H
/* One request of an operator, as the files with verbs share it (edge_operator.c,
 * edge_queue.c, edge_linkops.c). */
#include "storage/edges.h"

#define OPERATOR_ARGS (2u + STORE_MAX_TARGETS)
#define OPERATOR_TEXT 1024u

/* What was asked, and the answer as it grows. */
struct request {
    struct store_role *role;
    struct ipc_peer *peer;
    uint32_t id;
    char *arg[OPERATOR_ARGS + 1];
    size_t n;
    enum sp_err err;
    char text[OPERATOR_TEXT];
    uint16_t columns;
    uint32_t rows;
    struct wire_out cells;
};

/* The answer's status and its text for people. */
void request_say(struct request *q, enum sp_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* One row of q->columns cells; the first are headings. */
enum sp_err request_row(struct request *q, const char *const *cell);
/* Makes a change durable, and says so if that failed. */
bool request_kept(struct request *q, enum sp_err err);

void queue_verb_list(struct request *q);
void queue_verb_retry(struct request *q);
void queue_verb_drop(struct request *q);
void link_verb_list(struct request *q);
void link_verb_revoke(struct request *q);

#endif
