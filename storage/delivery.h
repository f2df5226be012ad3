#ifndef SEALPOST_STORAGE_DELIVERY_H
#define SEALPOST_STORAGE_DELIVERY_H
/* A delivery's channel, as its two files share it: edge_delivery.c (job, reading) and edge_result.c
 * (what it says). */
#include "storage/edges.h"

struct delivery {
    LIST_ENTRY(delivery) next;
    uint32_t id;
    struct store_role *role;
    struct lease *lease;
    struct ipc_peer *peer;
    struct store_upload *upload; /* the report as it comes; NULL */
    uint8_t *sealed;             /* envelope and box of a report that is complete; NULL */
    size_t envelope_len, box_len;
};

/* Handlers of delivery_rules; ctx is the delivery. */
enum sp_err delivery_report_bytes(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err delivery_report(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err delivery_result(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* Drops what has come of a report. */
void delivery_report_drop(struct delivery *d);

#endif
