/* The configuration file. Written by the operator, who is trusted to mean well, not to type well:
 * everything that is wrong is named with file and line, and nothing is guessed. */
#include "daemon/config_keys.h"
#include "daemon/credential.h"
#include "daemon/domain.h"
#include "daemon/role.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

struct reader {
    struct config *config;
    const char *path;
    FILE *in, *errors;
    int line;
    bool bad;
    bool set[CONFIG_MAX_KEYS];                   /* named in the file */
    int lines[CONFIG_MAX_KEYS][CONFIG_MAX_LIST]; /* of the values of lists */
};

static void *field(struct config *c, const struct key *k)
{
    return (char *)c + k->offset;
}

static const char *parse_number(const struct key *k, const char *value, uint64_t *out)
{
    static const struct {
        enum type type;
        char unit;
        uint64_t factor;
    } units[] = {
        {SIZE, 'K', 1 << 10}, {SIZE, 'M', 1 << 20}, {SIZE, 'G', 1 << 30},  {SIZE, 'T', 1ULL << 40},
        {DURATION, 's', 1},   {DURATION, 'm', 60},  {DURATION, 'h', 3600}, {DURATION, 'd', 86400},
    };
    char *end;
    errno = 0;
    if (value[0] < '0' || value[0] > '9')
        return "needs a number";
    uint64_t v = strtoull(value, &end, 10), factor = 1;
    for (size_t i = 0; *end != '\0' && i < sizeof(units) / sizeof(units[0]); i++)
        if (units[i].type == k->type && units[i].unit == *end && end[1] == '\0') {
            factor = units[i].factor;
            end++;
        }
    if (*end != '\0')
        return k->type == SIZE       ? "needs a size such as 50M (units K, M, G, T)"
               : k->type == DURATION ? "needs a time such as 5d (units s, m, h, d)"
                                     : "needs a whole number";
    if (errno != 0 || v > UINT64_MAX / factor || v * factor < k->min || v * factor > k->max)
        return "is out of range";
    *out = v * factor;
    return NULL;
}

static const char *parse_word(const struct key *k, const char *value, int *out)
{
    size_t len = strlen(value);
    int i = 0;
    for (const char *w = k->words; w != NULL; i++) {
        const char *end = strchr(w, '|');
        size_t n = end != NULL ? (size_t)(end - w) : strlen(w);
        if (n == len && memcmp(w, value, n) == 0) {
            *out = i;
            return NULL;
        }
        w = end != NULL ? end + 1 : NULL;
    }
    return "is not one of the choices";
}

struct addrinfo *config_address(const char *text)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE},
                    *found = NULL;
    const char *colon = strrchr(text, ':');
    char host[128];
    if (colon == NULL || colon == text)
        return NULL;
    /* getaddrinfo takes 99999 for a port, and keeps 16 bits of it. */
    size_t len = (size_t)(colon - text), digits = strspn(colon + 1, "0123456789");
    unsigned long port = strtoul(colon + 1, NULL, 10);
    if (colon[1 + digits] != '\0' || port < 1 || port > 65535)
        return NULL;
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(host))
        return NULL;
    memcpy(host, text, len);
    host[len] = '\0';
    return getaddrinfo(host, colon + 1, &hints, &found) == 0 ? found : NULL;
}

uint16_t config_port(const char *text)
{
    const char *colon = text != NULL ? strrchr(text, ':') : NULL;
    size_t digits = colon != NULL ? strspn(colon + 1, "0123456789") : 0;
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0')
        return 0;
    unsigned long port = strtoul(colon + 1, NULL, 10);
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* NULL, or what is wrong with the form of a value that would be taken as it is. */
static const char *check_form(const struct key *k, const char *value)
{
    if (k->type == TEXT && k->roles == CONTROL_ONLY && value[0] != '/')
        return "needs a path from the root: /...";
    bool address_wanted = k->type == LIST && strncmp(k->name, "listen", 6) == 0;
    if (address_wanted || strcmp(k->name, "server") == 0) {
        struct addrinfo *address = config_address(value);
        if (address == NULL)
            return "is not an address; write 192.0.2.1:25 or [2001:db8::1]:25";
        freeaddrinfo(address);
    }
    return NULL;
}

/* NULL, or what is wrong with the value. */
static const char *assign(struct config *c, const struct key *k, const char *value)
{
    void *to = field(c, k);
    if (strlen(value) > CONFIG_MAX_TEXT)
        return "is too long";
    if (k->type == LIST) {
        struct config_list *list = to;
        if (list->count == CONFIG_MAX_LIST)
            return "is given too often";
        list->item[list->count] = strdup(value);
        return list->item[list->count++] != NULL ? NULL : "does not fit into memory";
    }
    if (k->type == TEXT) {
        char **text = to;
        free(*text);
        *text = strdup(value);
        return *text != NULL ? NULL : "does not fit into memory";
    }
    if (k->type == WORD)
        return parse_word(k, value, to);
    return parse_number(k, value, to);
}

static const struct key *find_key(const char *section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

static int on_setting(void *arg, const char *section, const char *name, const char *value)
{
    struct reader *r = arg;
    const struct key *k = find_key(section, name);
    const char *wrong = NULL;
    char place[CREDENTIAL_PATH];
    value = credential_path(section, name, value, place);
    if (k == NULL)
        wrong = "no such setting; the sealpost.conf that comes with it names all";
    else if (value == NULL)
        wrong =
            "names no credential; write credential:NAME, of letters, digits, \".\", \"_\", \"-\"";
    else if (value[0] == '\0')
        wrong = "has no value";
    else if (k->type != LIST && r->set[k - config_keys])
        wrong = "is given twice";
    else if ((wrong = check_form(k, value)) == NULL &&
             (wrong = assign(r->config, k, value)) == NULL && k->type == LIST)
        r->lines[k - config_keys][((struct config_list *)field(r->config, k))->count - 1] = r->line;
    if (k != NULL)
        r->set[k - config_keys] = true;
    if (wrong != NULL) {
        fprintf(r->errors, "%s:%d: [%s] %s: %s%s%s\n", r->path, r->line, section, name, wrong,
                k != NULL && k->words != NULL ? ": " : "",
                k != NULL && k->words != NULL ? k->words : "");
        r->bad = true;
    }
    return 1;
}

/* One line into buf, cut where it does not fit. False: nothing is left. *wrong: what ini.h would
 * pass over in silence. */
static bool read_line(FILE *in, char *buf, size_t size, const char **wrong)
{
    size_t n = 0;
    int c = getc(in);
    bool any = c != EOF;
    for (; c != EOF && c != '\n'; c = getc(in)) {
        if (c == '\0')
            *wrong = "a NUL does not belong into a text file";
        else if (n + 2 < size)
            buf[n++] = (char)c;
        else
            *wrong = "this line is too long";
    }
    buf[n] = '\0';
    return any;
}

/* A blank line, a comment, a [section], or a setting. */
static bool looks_right(const char *line)
{
    if (line[0] == '[')
        return strchr(line, ']') != NULL;
    return line[0] == '\0' || line[0] == '#' || line[0] == ';' || strpbrk(line, "=:") != NULL;
}

/* Feeds inih. An indented line is a line like any other, not more of the value above it; a line
 * that is wrong is named and left out, so that those behind it are still looked at. */
static char *next_line(char *buf, int size, void *arg)
{
    struct reader *r = arg;
    const char *wrong = NULL;
    if (!read_line(r->in, buf, (size_t)size, &wrong))
        return NULL;
    r->line++;
    const char *text = buf + strspn(buf, r->line == 1 ? "\xef\xbb\xbf \t\r" : " \t\r");
    if (wrong == NULL && !looks_right(text))
        wrong = "neither a [section] nor a setting (key = value)";
    if (wrong != NULL) {
        fprintf(r->errors, "%s:%d: %s\n", r->path, r->line, wrong);
        r->bad = true;
        text = "";
    }
    memmove(buf, text, strlen(text) + 1);
    return buf;
}

static enum sp_err apply_presets(struct config *c, const bool *set)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (!set[i] && config_keys[i].preset != NULL &&
            assign(c, &config_keys[i], config_keys[i].preset) != NULL)
            return SP_ERR_MEMORY;
    return SP_OK;
}

static void demand(struct reader *r, const char *section, const char *name)
{
    const struct key *k = find_key(section, name);
    if (k != NULL && !r->set[k - config_keys]) {
        fprintf(r->errors, "%s: [%s] %s is missing; set it\n", r->path, section, name);
        r->bad = true;
    }
}

/* It goes into replies, trace headers and links: in ASCII, as senders' spellings are compared. */
static void check_domain(struct reader *r, const char *name, char **value)
{
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
    char ascii[DOMAIN_MAX + 1];
    if (*value == NULL)
        return;
    if (domain_to_ascii(*value, ascii) != SP_OK || strlen(ascii) > 253 ||
        ascii[strspn(ascii, may)] != '\0') {
        fprintf(r->errors, "%s: [appliance] %s is not a domain name (letters, digits, - and .)\n",
                r->path, name);
        r->bad = true;
        return;
    }
    free(*value);
    *value = strdup(ascii);
    r->bad |= *value == NULL;
}

/* A selector is one or more labels of a DNS name (RFC 6376 3.1). */
static bool is_selector(const char *s)
{
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = strlen(s);
    return len > 0 && len <= 200 && s[strspn(s, may)] == '\0' && s[0] != '.' && s[len - 1] != '.' &&
           strstr(s, "..") == NULL;
}

static void complain_relay(struct reader *r, const char *what)
{
    fprintf(r->errors, "%s: [relay] %s\n", r->path, what);
    r->bad = true;
}

static void check_relay(struct reader *r)
{
    const struct config *c = r->config;
    const struct config_list *selector = &c->dkim_selector;
    if (selector->count != c->dkim_key.count)
        complain_relay(r, "dkim_selector and dkim_key belong together: give as many of each");
    for (size_t i = 0; i < selector->count; i++) {
        if (!is_selector(selector->item[i]))
            complain_relay(r, "dkim_selector is not a DNS name (letters, digits, -, _ and .)");
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(selector->item[i], selector->item[k]) == 0)
                complain_relay(r, "dkim_selector is given twice for different keys");
    }
    if (c->relay_mode == RELAY_SMARTHOST && c->smarthost == NULL)
        complain_relay(r, "mode = smarthost needs smarthost = HOST:PORT");
    if (c->smarthost != NULL && (config_port(c->smarthost) == 0 || c->smarthost[0] == ':'))
        complain_relay(r, "smarthost must be HOST:PORT, as in 192.0.2.25:587");
}

/* What no default can stand for. */
static void check_whole(struct reader *r, bool user_mode)
{
    demand(r, "appliance", "hostname");
    demand(r, "appliance", "domain");
    if (!user_mode) {
        demand(r, "tls", "certificate");
        demand(r, "tls", "key");
    }
    check_relay(r);
    struct config *c = r->config;
    check_domain(r, "hostname", &c->hostname);
    for (size_t i = 0; i < c->domain.count; i++)
        check_domain(r, "domain", &c->domain.item[i]);
    if (c->web_url == NULL && c->hostname != NULL) {
        char url[CONFIG_MAX_TEXT + 16];
        snprintf(url, sizeof(url), "https://%s", c->hostname);
        c->web_url = strdup(url);
    }
    if (c->web_url != NULL &&
        (strncmp(c->web_url, "https://", 8) != 0 || c->web_url[strlen(c->web_url) - 1] == '/')) {
        fprintf(r->errors, "%s: [web] url must begin with https:// and not end in /\n", r->path);
        r->bad = true;
    }
}

enum sp_err config_read(const char *path, bool user_mode, FILE *errors, struct config **out)
{
    struct reader r = {.path = path, .errors = errors, .config = calloc(1, sizeof(*r.config))};
    enum sp_err err = SP_OK;
    *out = NULL;
    if (r.config == NULL)
        return SP_ERR_MEMORY;
    r.in = fopen(path, "re");
    if (r.in == NULL) {
        fprintf(errors, "%s: cannot be read: %s\n", path, strerror(errno));
        err = SP_ERR_CONFIG;
        goto done;
    }
    int line = ini_parse_stream(next_line, &r, on_setting, &r);
    if (line != 0 && !r.bad) {
        fprintf(errors, "%s:%d: cannot be understood\n", path, line);
        r.bad = true;
    }
    if (ferror(r.in)) {
        fprintf(errors, "%s: cannot be read to its end\n", path);
        r.bad = true;
    }
    fclose(r.in);
    err = apply_presets(r.config, r.set);
    check_whole(&r, user_mode);
    r.bad |= config_collisions(r.config, r.lines, path, errors) > 0;
    if (err == SP_OK && r.bad)
        err = SP_ERR_CONFIG;
    memcpy(r.config->named, r.set, sizeof(r.set));
done:
    if (err == SP_OK)
        *out = r.config;
    else
        config_free(r.config);
    return err;
}

static size_t format_value(const struct config *c, const struct key *k, size_t item, char *buf,
                           size_t cap)
{
    const void *at = (const char *)c + k->offset;
    int n;
    if (k->type == LIST)
        n = snprintf(buf, cap, "%s.%s=%s\n", k->section, k->name,
                     ((const struct config_list *)at)->item[item]);
    else if (k->type == TEXT)
        n = snprintf(buf, cap, "%s.%s=%s\n", k->section, k->name, *(char *const *)at);
    else if (k->type == WORD) {
        const char *w = k->words;
        for (int i = *(const int *)at; i > 0; i--)
            w = strchr(w, '|') + 1;
        n = snprintf(buf, cap, "%s.%s=%.*s\n", k->section, k->name, (int)strcspn(w, "|"), w);
    } else
        n = snprintf(buf, cap, "%s.%s=%llu\n", k->section, k->name,
                     (unsigned long long)*(const uint64_t *)at);
    return n < 0 ? cap : (size_t)n;
}

static size_t count_values(const struct config *c, const struct key *k)
{
    const void *at = (const char *)c + k->offset;
    if (k->type == LIST)
        return ((const struct config_list *)at)->count;
    if (k->type == TEXT)
        return *(char *const *)at != NULL;
    return 1;
}

enum sp_err config_slice(const struct config *config, unsigned role_bit, char *buf, size_t cap,
                         size_t *len)
{
    *len = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        if (!(config_keys[i].roles & role_bit))
            continue;
        for (size_t item = 0; item < count_values(config, &config_keys[i]); item++) {
            size_t n = format_value(config, &config_keys[i], item, buf + *len, cap - *len);
            if (n >= cap - *len)
                return SP_ERR_LIMIT;
            *len += n;
        }
    }
    return SP_OK;
}

/* One "section.key=value" line, NUL-terminated. */
static enum sp_err take_line(struct config *c, bool *set, char *line)
{
    char *dot = strchr(line, '.');
    char *equals = dot != NULL ? strchr(dot, '=') : NULL;
    if (equals == NULL)
        return SP_ERR_CONFIG;
    *dot = *equals = '\0';
    const struct key *k = find_key(line, dot + 1);
    if (k == NULL || assign(c, k, equals + 1) != NULL)
        return SP_ERR_CONFIG;
    set[k - config_keys] = true;
    return SP_OK;
}

enum sp_err config_from_slice(const char *text, size_t len, struct config **out)
{
    struct config *c = calloc(1, sizeof(*c));
    char *copy = strndup(text, len);
    bool set[CONFIG_MAX_KEYS] = {false};
    enum sp_err err = c != NULL && copy != NULL ? SP_OK : SP_ERR_MEMORY;
    char *rest = copy;
    *out = NULL;
    while (err == SP_OK && *rest != '\0') {
        char *end = strchr(rest, '\n');
        if (end == NULL) {
            err = SP_ERR_CONFIG;
            break;
        }
        *end = '\0';
        err = take_line(c, set, rest);
        rest = end + 1;
    }
    free(copy);
    if (err == SP_OK)
        *out = c;
    else
        config_free(c);
    return err;
}

void config_free(struct config *config)
{
    for (size_t i = 0; config != NULL && i < config_key_count; i++) {
        void *at = field(config, &config_keys[i]);
        if (config_keys[i].type == TEXT)
            free(*(char **)at);
        else if (config_keys[i].type == LIST)
            for (size_t n = 0; n < ((struct config_list *)at)->count; n++)
                free(((struct config_list *)at)->item[n]);
    }
    free(config);
}
