#ifndef SEALPOST_STORAGE_FORMS_H
#define SEALPOST_STORAGE_FORMS_H
/*
 * Forms while they are uploaded, in this process's memory alone. A form carries secrets that are
 * sealed for the keeper: in the database they would stay in free pages, and whoever had the disk
 * and the keeper's key could open them after they were erased (P4, P7). After a restart a client
 * finds none of its form there, and sends it again; its pieces are kept.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stddef.h>
#include <stdint.h>

#define FORMS_TOTAL   (64u << 20) /* bytes of all users; the one longest untouched makes room */
#define FORMS_OF_USER (8u << 20)
#define FORMS_TICKS   60u /* after so many without a touch a form is wiped */

struct forms;

struct forms *forms_new(void);
void forms_free(struct forms *f);
/* Appends; offset 0 begins anew. SP_ERR_STATE: offset is not what is there, or it is held;
 * SP_ERR_LIMIT: beyond FORM_MAX or FORMS_OF_USER; SP_ERR_NO_SPACE; SP_ERR_MEMORY. */
enum sp_err forms_put(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE], uint64_t offset,
                      const uint8_t *bytes, size_t len);
size_t forms_length(const struct forms *f, uint64_t user, const uint8_t id[ID_SIZE]);
/* Lends the bytes until forms_release. SP_ERR_NOT_FOUND; SP_ERR_STATE: held already. */
enum sp_err forms_hold(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE],
                       const uint8_t **bytes, size_t *len);
void forms_release(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE]);
/* A minute has passed. */
void forms_tick(struct forms *f);
/* Wipes it; what is held is wiped when it is released. */
void forms_drop(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE]);

#endif
