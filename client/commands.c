/* The commands' table: a new command is a new row here and a function in a cmd_ file. */
#include "client/client.h"

#include <stddef.h>

#define ANY_ID                                                                                     \
    "ID is a message's 32 hex digits, 6 or more of its first ones, or the number that list "       \
    "shows.\n"

const struct command client_commands[] = {
    {.name = "enroll",
     .words = "URL ADDRESS CODE",
     .help = "Make keys on this device and register them",
     .more = "The postmaster gives you the three words. Keys are saved before anything is sent, so "
             "that an\ninterrupted enrolment is finished by running the same command again. With a "
             "new code, keys\nthat a restored server does not know any more are enrolled again.\n",
     .min_words = 3,
     .max_words = 3,
     .options = OPT_JSON,
     .run = cmd_enroll},
    {.name = "list",
     .words = "",
     .help = "List the messages in your mailbox",
     .more =
         "Shows number, id, date, ciphertext size, pieces, and who could read it and signed it: "
         "each\nmessage's envelope is fetched and verified for that.\n",
     .options = OPT_JSON,
     .need = NEED_SERVER,
     .run = cmd_list},
    {.name = "read",
     .words = "ID",
     .help = "Write a message to standard output, byte for byte",
     .more =
         "Everything is fetched and verified before the first byte is written; who signed it is "
         "said on\nstandard error.\n" ANY_ID,
     .min_words = 1,
     .max_words = 1,
     .need = NEED_SERVER,
     .run = cmd_read},
    {.name = "sync",
     .words = "MAILDIR",
     .help = "Decrypt new messages into a Maildir",
     .more = "Messages that were fetched before are not fetched again, even if they were deleted "
             "from the\nMaildir. What could not be read is tried again next time.\n",
     .min_words = 1,
     .max_words = 1,
     .need = NEED_SERVER,
     .run = cmd_sync},
    {.name = "send",
     .words = "[-t] [-i] [-f FROM] [RECIPIENT...]",
     .help = "Send the message on standard input",
     .more =
         "Users of the appliance get it end-to-end encrypted and signed. For recipients outside "
         "the "
         "appliance\nis given a key to this one mail; that is said before it is sent. With --link "
         "they are sent a\nlink instead, which ends by itself or by 'sealpost revoke'. Missing "
         "Date, "
         "From and Message-ID\nare added, Bcc is taken out. Prints the message id.\n\n"
         "  -t            take recipients from To, Cc and Bcc, too\n"
         "  -i            a line with a lone dot does not end the message\n"
         "  -f FROM       the envelope's sender: you, or an alias that leads to you\n"
         "Other flags of sendmail (-oX, -bm, -eX, -B, -F, -L, -N, -O, -R, -V, -G, -U, -m, -n, -v) "
         "are\ntaken and ignored.\n"
         "As a mail program's sendmail: 'sealpost send', or a link to it by the name sendmail.\n\n"
         "When the connection breaks the message is kept, encrypted: 'sealpost outbox' shows it.\n",
     .max_words = 1000,
     .options =
         OPT_JSON | OPT_LINK | OPT_EXPIRES | OPT_RESUME | OPT_DROP | OPT_SUBJECT | OPT_PRINT_LINKS,
     .need = NEED_SERVER,
     .run = cmd_send,
     .flags = "tif:r:o:b:e:B:F:L:N:O:R:V:GUmnv",
     .check = cmd_send_check},
    {.name = "status",
     .words = "ID",
     .help = "Show what became of a message that you sent",
     .more =
         "Per recipient: user, relay (outside) or link; its state, since when, the next try, and "
         "the last\nanswer of the other server. The recipients are compared with the list that you "
         "signed.\n" ANY_ID,
     .min_words = 1,
     .max_words = 1,
     .options = OPT_JSON,
     .need = NEED_SERVER,
     .run = cmd_status},
    {.name = "revoke",
     .words = "ID [RECIPIENT]",
     .help = "Stop what was not sent yet, and end links",
     .more = "What another server has taken cannot be taken back.\n" ANY_ID,
     .min_words = 1,
     .max_words = 2,
     .need = NEED_SERVER,
     .run = cmd_revoke},
    {.name = "outbox",
     .words = "",
     .help = "List messages whose sending is unfinished",
     .more =
         "'sealpost send --resume' goes on with them, 'sealpost send --drop ID' gives one up.\n",
     .options = OPT_JSON,
     .need = NEED_KEYS,
     .run = cmd_outbox},
    {.name = "open",
     .words = "LINK",
     .help = "Open a link without a browser, or an account",
     .more =
         "Writes the message to standard output, or to DIR/message.eml with its attachments "
         "beside it: what was\nwritten is listed, nothing is overwritten. LINK may be - to read it "
         "from standard input: other users of\nthis machine can see a command's arguments.\n",
     .min_words = 1,
     .max_words = 1,
     .options = OPT_OUT,
     .run = cmd_open},
    {.name = "raw",
     .words = "ID",
     .help = "Save what the server holds of a message",
     .more = "Writes envelope.bin, box.bin, piece-0.bin and so on, unverified and still "
             "encrypted.\n" ANY_ID,
     .min_words = 1,
     .max_words = 1,
     .needs = OPT_OUT,
     .need = NEED_SERVER,
     .run = cmd_raw},
    {.name = "keys",
     .words = "",
     .help = "Print all secret keys as JSON, for other programs",
     .more = "Whoever has this output reads all your mail. Asks first on a terminal.\n",
     .options = OPT_JSON,
     .need = NEED_KEYS,
     .run = cmd_keys},
    {.name = "rotate",
     .words = "",
     .help = "Make a new per-user key (PUK)",
     .more = "Mail that comes from now on is sealed for the new key. Old keys are kept: old mail "
             "stays\nreadable.\n",
     .need = NEED_SERVER,
     .run = cmd_rotate},
    {.name = "fingerprint",
     .words = "[ADDRESS]",
     .help = "Show the fingerprint of your keys, or of another user's",
     .more =
         "Compare it with the other person over another way: when it is the same on both sides, "
         "nobody\nstands between you. With --track you say that you did: from then on nothing is "
         "sent to them once\nit has changed, until you compared it again.\n",
     .max_words = 1,
     .options = OPT_JSON | OPT_TRACK | OPT_UNTRACK | OPT_FORGET,
     .need = NEED_SERVER,
     .run = cmd_fingerprint,
     .check = cmd_fingerprint_check},
    {.name = "delete",
     .words = "ID",
     .help = "Delete a message from your mailbox",
     .more = ANY_ID,
     .min_words = 1,
     .max_words = 1,
     .need = NEED_SERVER,
     .run = cmd_delete},
    {.name = NULL},
};
