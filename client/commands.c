/* The commands' table: a new command is a new row here and a function in a cmd_ file. */
#include "client/client.h"

#include <stddef.h>

#define ANY_ID                                                                                     \
    "ID is a message's 32 hex digits, 6 or more of its first ones, or the number that list "       \
    "shows.\n"

const struct command client_commands[] = {
    {"enroll", "URL ADDRESS CODE", "Make keys on this device and register them",
     "The postmaster gives you the three words. Keys are saved before anything is sent, so that "
     "an\n"
     "interrupted enrolment is finished by running the same command again.\n",
     3, 3, OPT_JSON, NEED_STATE, cmd_enroll},
    {"list", "", "List the messages in your mailbox",
     "Shows number, id, date, ciphertext size, pieces, key generation, and whether this device "
     "can\n"
     "read it.\n",
     0, 0, OPT_JSON, NEED_SERVER, cmd_list},
    {"read", "ID", "Write a message to standard output, byte for byte",
     "Everything is fetched and verified before the first byte is written.\n" ANY_ID, 1, 1, 0,
     NEED_SERVER, cmd_read},
    {"sync", "MAILDIR", "Decrypt new messages into a Maildir",
     "Messages that were fetched before are not fetched again, even if they were deleted from the\n"
     "Maildir. What could not be read is tried again next time.\n",
     1, 1, 0, NEED_SERVER, cmd_sync},
    {"raw", "ID", "Save what the server holds of a message",
     "Writes envelope.bin, box.bin, piece-0.bin and so on, unverified and still "
     "encrypted.\n" ANY_ID,
     1, 1, OPT_OUT, NEED_SERVER, cmd_raw},
    {"keys", "", "Print all secret keys as JSON, for a backup",
     "Whoever has this output reads all your mail. Asks first on a terminal.\n", 0, 0, OPT_JSON,
     NEED_KEYS, cmd_keys},
    {"rotate", "", "Make a new per-user key (PUK)",
     "Mail that comes from now on is sealed for the new key. Old keys are kept: old mail stays\n"
     "readable.\n",
     0, 0, 0, NEED_SERVER, cmd_rotate},
    {"fingerprint", "[ADDRESS]", "Show the fingerprint of your keys, or of another user's",
     "Compare it with the other person over another way: when it is the same on both sides, "
     "nobody\n"
     "stands between you.\n",
     0, 1, OPT_JSON, NEED_SERVER, cmd_fingerprint},
    {"delete", "ID", "Delete a message from your mailbox", ANY_ID, 1, 1, 0, NEED_SERVER,
     cmd_delete},
    {.name = NULL},
};
