#ifndef SEALPOST_CREDENTIAL_H
#define SEALPOST_CREDENTIAL_H
/*
 * Files that the service manager keeps for a service (LoadCredential=, LoadCredentialEncrypted= of
 * systemd.exec(5)): a setting that names a key or certificate may say credential:NAME instead of a
 * path.
 */
#define CREDENTIAL_PATH 1200u

/* The path that a setting's value means: the value itself, or the place of the credential, in out.
 * NULL: the name after "credential:" is none. */
const char *credential_path(const char *section, const char *key, const char *value,
                            char out[CREDENTIAL_PATH]);
/* After a file could not be opened: what to do, if it is a credential; else "". */
const char *credential_advice(const char *path);

#endif
