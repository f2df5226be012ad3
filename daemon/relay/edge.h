#ifndef SEALPOST_RELAY_EDGE_H
#define SEALPOST_RELAY_EDGE_H
/* A delivery's side of its channels: one question, one answer, in order. The roles at the other end
 * are trusted more than this process; what they answer is checked for its form all the same. */
#include "daemon/ipc.h"
#include "envelope/error.h"
#include "envelope/wire.h"

#include <stddef.h>
#include <stdint.h>

/* Sends a frame whose body was written behind IPC_HEADER bytes of room: body->at == frame +
 * IPC_HEADER. */
enum sp_err edge_send(int sock, uint16_t type, uint8_t *frame, const struct wire_out *body);
/* Waits for the answer to a type (type | 0x80), into buf. SP_ERR_PEER: gone, or another frame. */
enum sp_err edge_receive(int sock, uint16_t type, void *buf, size_t cap, struct wire_in *body);
/* Both; the answer begins with a status, which becomes the result. On SP_OK body is what follows.
 */
enum sp_err edge_ask(int sock, uint16_t type, uint8_t *frame, const struct wire_out *body,
                     void *buf, size_t cap, struct wire_in *reply);
/* The status at the head of an answer; nothing follows one that is not SP_OK. */
enum sp_err edge_status(struct wire_in *body);
/* "b16 text" copied out with a NUL: no NUL, no controls in it. Fails body otherwise. */
void edge_get_text(struct wire_in *body, char *out, size_t cap);

#endif
