#ifndef SEALPOST_CLIENT_SAVE_H
#define SEALPOST_CLIENT_SAVE_H
/* A message as files: message.eml, byte for byte, and its attachments, decoded, under names of
 * their own. Nothing that is there is overwritten. */
#include "client/message.h"

/* After message_pieces. dir is made if it is not there. What was written is printed on standard
 * output, a path a line. A message.eml that is there already refuses all of it. Reported. */
enum sp_err save_message(const struct message *m, const char *dir);

#endif
