#ifndef SEALPOST_STORAGE_COPIED_H
#define SEALPOST_STORAGE_COPIED_H
/* What `sealpostctl backup` writes into its copy, and the store that opens it takes away again
 * (lmdb_mail.c): a database that came back does not know which numbers of mailboxes were given out
 * since it was copied. */

#define COPIED_TABLE "meta"
#define COPIED_ROW   "copied" /* u64: when, in milliseconds since 1970 */

#endif
