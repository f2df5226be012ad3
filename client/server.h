#ifndef SEALPOST_CLIENT_SERVER_H
#define SEALPOST_CLIENT_SERVER_H
/*
 * The appliance's HTTP interface (docs/api.md), one function a request. The login happens by itself
 * when a request needs it; the token is kept in locked memory alone. Unless it is said otherwise,
 * a failure has been reported when a function returns.
 */
#include "client/account.h"
#include "client/http.h"
#include "client/keyfile.h"
#include "client/mailpage.h"
#include "envelope/sigchain.h"

#include <stdbool.h>
#include <stdint.h>

struct server;
struct json_t;

/* account and keys are borrowed. */
enum sp_err server_open(const struct account *account, const struct keyring *keys, const char *ca,
                        struct server **out);
/* Ends the session, if there is one and polite is set. */
void server_close(struct server *s, bool polite);

/* Reports why the last request failed, unless that was done. Returns err. */
enum sp_err server_refuse(struct server *s, enum sp_err err, const char *what);

/* The server has to call itself what the user calls it: logins are signed for that URL. */
enum sp_err server_check_url(struct server *s);

/* The last request was answered with a clear no (4xx): it has not happened. After any other failure
 * it may have. */
bool server_refused(const struct server *s);

/* The HTTP status of the last answer; 0: none came, or it was to a login. */
long server_answer(const struct server *s);

/* Also checks that the server enrolled the root's user id. */
enum sp_err server_enroll(struct server *s, const char *code, const uint8_t *root, size_t root_len);
/* Tries to log in, saying nothing on failure. */
enum sp_err server_login(struct server *s);

/* Links above seq after; *wires is free()d by the caller. SP_ERR_NOT_FOUND without a word. */
enum sp_err server_sigchain(struct server *s, const char *address, uint32_t after,
                            uint8_t user_id[ID_SIZE], uint8_t **wires, size_t *len);
/* The same by user id. */
enum sp_err server_sigchain_of(struct server *s, const uint8_t user_id[ID_SIZE], uint32_t after,
                               uint8_t **wires, size_t *len);
/* See server_refused for what a failure means. */
enum sp_err server_append(struct server *s, const uint8_t *wire, size_t len);

/* Up to MAIL_PAGE messages above seq after, ascending; *more: there are others behind them. */
enum sp_err server_mailbox(struct server *s, uint64_t after, struct mail page[MAIL_PAGE],
                           uint32_t *n, bool *more);

/* b32(envelope) b32(box) as it came, free()d by the caller; not looked into. SP_ERR_NOT_FOUND too
 * is reported. */
enum sp_err server_message(struct server *s, const char id[ID_HEX + 1], uint8_t **out, size_t *len);
/* Ciphertext from byte `from` on. Says nothing: after SP_ERR_PEER asking again may help, else
 * server_refuse tells why. */
enum sp_err server_piece(struct server *s, const char id[ID_HEX + 1], uint32_t piece, uint64_t from,
                         http_sink sink, void *ctx);
enum sp_err server_delete(struct server *s, const char id[ID_HEX + 1]);

/* Sending (client/server_send.c). What "says nothing" returns SP_ERR_PEER when trying again may
 * help; server_refuse tells why it failed. */

/* The appliance's public key for secrets (FORMAT.md section 7). SP_ERR_NOT_FOUND without a word. */
enum sp_err server_keeper(struct server *s, uint8_t pk[KEY_SIZE]);

/* The longest that a link may last, in seconds; 0: the server does not say. Reported. */
enum sp_err server_max_expiry(struct server *s, uint64_t *seconds);

#define RESOLVE_MAX 256u /* users that one address may reach */
/* Who gets mail for an address; *ours false: nobody here, it is outside. SP_ERR_NOT_FOUND without a
 * word: the domain is the appliance's, but there is nobody. */
enum sp_err server_resolve(struct server *s, const char *address, bool *ours,
                           uint8_t users[RESOLVE_MAX][ID_SIZE], size_t *n);

#define UPLOAD_FORM UINT32_MAX     /* in place of a piece's number */
#define UPLOAD_PART (256u * 1024u) /* bytes of one server_upload_put */
/* All these say nothing. */
enum sp_err server_upload_begin(struct server *s, const uint64_t *length, uint32_t n,
                                uint8_t id[ID_SIZE]);
/* Bytes that are there, of each of the n pieces and of the form. */
enum sp_err server_upload_state(struct server *s, const uint8_t id[ID_SIZE], uint32_t n,
                                uint64_t *there, uint64_t *form);
enum sp_err server_upload_put(struct server *s, const uint8_t id[ID_SIZE], uint32_t piece,
                              uint64_t offset, const void *bytes, size_t len);
enum sp_err server_upload_drop(struct server *s, const uint8_t id[ID_SIZE]);
enum sp_err server_upload_send(struct server *s, const uint8_t id[ID_SIZE],
                               uint8_t message_id[ID_SIZE]);
/* The server's JSON about a message that this user sent, json_decref()ed by the caller, not looked
 * into. Says nothing. */
enum sp_err server_sent_status(struct server *s, const char id[ID_HEX + 1], struct json_t **out);
/* Its sent copy, free()d by the caller. SP_ERR_NOT_FOUND without a word. */
enum sp_err server_sent_copy(struct server *s, const char id[ID_HEX + 1], uint8_t **out,
                             size_t *len);
/* address "": all recipients. *n: so many were concerned. */
enum sp_err server_revoke(struct server *s, const char id[ID_HEX + 1], const char *address,
                          uint64_t *n);

#endif
