#ifndef SEALPOST_MESSAGES_H
#define SEALPOST_MESSAGES_H
/*
 * Every frame between the processes of the tree, by edge. The fields after each name are its
 * payload, in the notation of FORMAT.md section 1; "status" is a u8 holding an enum sp_err (0 is
 * success, and on another status nothing follows it). A reply carries the id of its request.
 * "+fd": a descriptor comes along.
 */

/* supervisor -> role (fd 3) */
enum {
    CT_CONFIG = 0x0100, /* the role's slice as text */
    CT_CERTIFICATE,     /* PEM chain: smtp, web (at start, and again on reload) */
    CT_KEY,             /* PEM private key: keeper (at start, and again on reload) */
    CT_ADMIN,           /* +fd: an operator's connection, store alone */
    CT_STATUS,          /* asks for CT_STATUS_REPLY */
    CT_STOP,            /* end cleanly */
    CT_PROBE, /* test build only: b16 name of an action to try; never answered if it kills */
    CT_SCAN,  /* test build only: b16 marker prefix; count it in own memory */
    /* role -> supervisor */
    CT_READY = 0x0180,
    CT_STATUS_REPLY, /* pairs of b16 name, b16 value */
    CT_PROBE_REPLY,  /* u32 errno (0: it was allowed) */
    CT_SCAN_REPLY,   /* u32 markers found */
    CT_SESSION_DIED, /* u32 signal: a forked session died of it (test and status) */
};

/* smtp (parent) -> sealer, keeper */
enum {
    SP_SESSION = 0x0200, /* +fd: u32 session, b16 client address; the session's channel */
    SP_SESSION_GONE,     /* u32 session: its process is dead and reaped, its memory with it */
};

/* session <-> sealer */
enum {
    SE_RCPT = 0x0300, /* b16 address (local@domain, UTF-8, quotes removed) */
    SE_RESET,         /* forget the transaction */
    SE_DATA,          /* content is about to come: lend a slot */
    SE_ATTACH, /* u64 splice_at, u16 media type bytes, u16 file name bytes (both in slot META):
                  an attachment begins; SE_SEALs of stream 1 belong to it until its last */
    SE_SEAL,   /* u8 stream (0 body, 1 attachment), u8 last, u32 bytes at slot WORK */
    SE_FINISH, /* u32 bytes of the body's tail at slot WORK, u32 window high-water mark,
                  u64 plaintext microseconds: seal, store, answer */
    SE_ABORT,  /* b16 why (a word for the audit log): drop all of it */
    SE_RCPT_REPLY = 0x0380, /* status: OK, NOT_FOUND, NO_KEY, NO_SPACE, LIMIT, SYSTEM */
    SE_SLOT,                /* status (+fd the first time in a session) */
    SE_SEALED,              /* slot WORK is wiped and may be filled again */
    SE_DONE,                /* status, message_id[16]: on disk, synced; or nothing is */
};

/* The slot that a session shares with the sealer; offsets in bytes. */
#define SLOT_WORK        0u /* piece bytes to be sealed: up to three chunks */
#define SLOT_WORK_SIZE   (48u * 1024u)
#define SLOT_PARK        (SLOT_WORK + SLOT_WORK_SIZE) /* the body's tail while an attachment streams */
#define SLOT_PARK_SIZE   (16u * 1024u)
#define SLOT_READ        (SLOT_PARK + SLOT_PARK_SIZE) /* what was read off the network */
#define SLOT_READ_SIZE   (16u * 1024u)
#define SLOT_META        (SLOT_READ + SLOT_READ_SIZE) /* media type and file name of SE_ATTACH */
#define SLOT_META_SIZE   4096u
#define SLOT_CUTTER      (SLOT_META + SLOT_META_SIZE) /* the session's MIME cutter */
#define SLOT_CUTTER_SIZE (16u * 1024u)
#define SLOT_SIZE        (SLOT_CUTTER + SLOT_CUTTER_SIZE)

/* session <-> keeper, web <-> keeper */
enum {
    SK_SIGN =
        0x0400, /* b16 signature algorithm ("ECDSA", "RSA", "ED25519", "RSA-PSS"), b16 digest name
                   or empty, b32 whole to-be-signed input; once a session, always from web */
    SK_SIGN_REPLY = 0x0480, /* status, b16 signature */
};

/* sealer <-> store. Ciphertext goes through a ring in shared memory (the store maps it read-only):
 * positions are running byte counts, taken modulo the ring's size; a block never wraps. */
enum {
    SS_RING = 0x0500, /* +fd, once and first: u64 size */
    SS_LOOKUP,        /* b16 address */
    SS_BLOCK,  /* u64 upload, u16 piece, u64 position, u32 bytes: append to that piece; pieces of an
                  upload may interleave; position never falls, skipped bytes count as consumed */
    SS_COMMIT, /* u64 upload, message_id[16], u64 received_ms, u16 pieces, b32 envelope, u16 boxes,
                  then a box: user_id[16], b32 box. id: answered when synced; flags: how many more
                  messages may be about to be committed, which the store may wait for a moment */
    SS_ABORT,  /* u64 upload: drop what came of it */
    SS_LOOKUP_REPLY = 0x0580, /* status, u16 n, n times: user_id[16] u32 generation puk_pk[32] */
    SS_CONSUMED,              /* u64 position: the ring is free up to here */
    SS_COMMIT_REPLY,          /* status */
};

/* web <-> store. token[32] names an authenticated session of one user's device. */
enum {
    SW_CHALLENGE = 0x0600, /* (nothing) */
    SW_LOGIN,              /* user_id[16] device_id[16] challenge[32] signature[64]: docs/api.md */
    SW_ENROLL,             /* b16 address, b16 code, b32 root wire (sigchain) */
    SW_CHAIN_GET,          /* token[32], b16 address, u32 after_seq: links above it, oldest first */
    SW_CHAIN_ADD,          /* token[32], b32 wire */
    SW_LIST,               /* token[32], u64 after (0: from the start), u16 limit (1..500) */
    SW_MESSAGE,            /* token[32], message_id[16] */
    SW_PIECE,  /* token[32], message_id[16], u16 piece, u64 offset, u32 bytes (1..65536) */
    SW_DELETE, /* token[32], message_id[16] */
    SW_LOGOUT, /* token[32] */
    /* replies: type | 0x80 */
    SW_CHALLENGE_REPLY = 0x0680, /* status, challenge[32] */
    SW_LOGIN_REPLY,              /* status, token[32], u32 seconds it lasts */
    SW_ENROLL_REPLY,             /* status, user_id[16] */
    SW_CHAIN_GET_REPLY, /* status, user_id[16], u8 more, then wires as they are, to the end */
    SW_CHAIN_ADD_REPLY, /* status */
    SW_LIST_REPLY,      /* status, u16 n, n times: u64 seq, message_id[16], u64 received_ms, u64
                           ciphertext bytes, u16 pieces, u32 puk_generation */
    SW_MESSAGE_REPLY,   /* status, b32 envelope, b32 box */
    SW_PIECE_REPLY,     /* status, u64 total ciphertext bytes, b32 bytes */
    SW_DELETE_REPLY,    /* status */
    SW_LOGOUT_REPLY,    /* status */
};

/* sealpostctl <-> supervisor, store (control socket, SEQPACKET). The first frame says who is meant;
 * the supervisor hands the connection on and reads no more of it. */
enum {
    CC_STORE = 0x0700, /* (nothing): the next frames are the store's */
    CC_STATUS,         /* (nothing): answered by the supervisor with CC_TABLE */
    CC_SCAN,           /* test build only: b16 prefix; CC_TABLE of role, markers */
    CC_PROBE,          /* test build only: u8 role, b16 action; CC_TABLE of role, errno */
    CC_REQUEST,        /* u16 n, n times b16: verb and arguments, as on the command line */
    CC_TABLE = 0x0780, /* status, b16 message for people (may be empty), u16 columns, u32 rows, then
                          the cells as b16, the first row being headings; the last frame has flag 1,
                          others continue the table */
};
#define CC_LAST 1u

#endif
