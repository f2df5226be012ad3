/* What counts as swap that nobody can read from the disk: told from a text like /proc/swaps and a
 * folder like /sys/class/block; and what this machine has. */
#include "daemon/control/swap.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char block[] = "/tmp/sealpost-swap-XXXXXX";

/* A file of the folder, and the folders above it. */
static void put(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", block, name);
    for (char *slash = path + strlen(block) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    if (text == NULL) {
        mkdir(path, 0700);
        return;
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_devices(void **state)
{
    (void)state;
    if (mkdtemp(block) == NULL)
        return -1;
    put("sda2/size", "1\n");
    put("dm-0/dm/uuid", "CRYPT-PLAIN-cryptswap\n");
    put("dm-1/dm/uuid", "CRYPT-LUKS2-00000000000000000000000000000000-sda3_crypt\n");
    put("dm-2/dm/uuid", "LVM-abcdef\n"); /* on an encrypted one */
    put("dm-2/slaves/dm-1", NULL);
    put("dm-3/dm/uuid", "LVM-abcdef\n"); /* on a plain one as well */
    put("dm-3/slaves/dm-1", NULL);
    put("dm-3/slaves/sda2", NULL);
    put("dm-4/dm/uuid", "LVM-abcdef\n"); /* on nothing */
    put("dm-4/slaves", NULL);
    put("dm-5/dm/uuid", "CRYPT-VERITY-1-root\n");
    put("dm-6/dm/uuid", "CRYPT-INTEGRITY-1-swap\n");
    put("dm-7/dm/uuid", "LVM-abcdef\n"); /* on itself */
    put("dm-7/slaves/dm-7", NULL);
    put("zram0/disksize", "1048576\n");
    put("zram1/disksize", "1048576\n");
    put("zram1/backing_dev", "none\n");
    put("zram2/disksize", "1048576\n");
    put("zram2/backing_dev", "/dev/sda2\n");
    return 0;
}

static int remove_devices(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", block);
    return system(command);
}

static const char heading[] = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

static void each_kind(void **state)
{
    static const struct {
        const char *name, *type;
        enum swap_kind kind;
    } cases[] = {
        {"/dev/sda2", "partition", SWAP_PLAIN},
        {"/dev/dm-0", "partition", SWAP_CRYPT},
        {"/dev/dm-1", "partition", SWAP_CRYPT},
        {"/dev/dm-2", "partition", SWAP_CRYPT},
        {"/dev/dm-3", "partition", SWAP_PLAIN},
        {"/dev/dm-4", "partition", SWAP_PLAIN},
        {"/dev/dm-5", "partition", SWAP_PLAIN},
        {"/dev/dm-6", "partition", SWAP_PLAIN},
        {"/dev/dm-7", "partition", SWAP_PLAIN},
        {"/dev/dm-9", "partition", SWAP_PLAIN},
        {"/dev/zram0", "partition", SWAP_ZRAM},
        {"/dev/zram1", "partition", SWAP_ZRAM},
        {"/dev/zram2", "partition", SWAP_ZRAM_DISK},
        {"/dev/zram9", "partition", SWAP_PLAIN},
        {"/swapfile", "file", SWAP_FILE},
        {"/on/dm-0", "file", SWAP_FILE},
        {"/a\\040b\\040(deleted)", "file", SWAP_FILE},
    };
    char text[4096];
    struct swap swap;
    (void)state;
    snprintf(text, sizeof(text), "%s", heading);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s   %s\t1048572\t\t0\t\t-2\n",
                 cases[i].name, cases[i].type);
    const char *at = text;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(swap_next(&at, block, &swap));
        assert_string_equal(swap.name, cases[i].name);
        assert_int_equal(swap.kind, cases[i].kind);
    }
    assert_false(swap_next(&at, block, &swap));
}

static void none(void **state)
{
    static const char *const texts[] = {"", heading, "Filename", "\n\n"};
    struct swap swap;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *at = texts[i];
        assert_false(swap_next(&at, block, &swap));
    }
}

/* What is cut off is no better than what it stands for. */
static void odd_lines(void **state)
{
    char text[700];
    struct swap swap;
    const char *at = text;
    (void)state;
    memset(text, 'x', sizeof(text));
    snprintf(text + 600, sizeof(text) - 600, " partition 1 0 -2\nalone\n/dev/dm-0 partition 1");
    assert_true(swap_next(&at, block, &swap));
    assert_int_equal(swap.kind, SWAP_FILE);
    assert_int_equal(strlen(swap.name), SWAP_NAME - 1);
    assert_true(swap_next(&at, block, &swap));
    assert_string_equal(swap.name, "/dev/dm-0");
    assert_int_equal(swap.kind, SWAP_CRYPT);
    assert_false(swap_next(&at, block, &swap));
}

/* The kernel's own folder: a device that is there and is no device mapper's encrypts nothing. */
static void of_this_machine(void **state)
{
    struct swap swap;
    (void)state;
    DIR *list = opendir("/sys/class/block");
    for (const struct dirent *e; list != NULL && (e = readdir(list)) != NULL;) {
        char text[512], path[PATH_MAX];
        const char *at = text;
        snprintf(path, sizeof(path), "/sys/class/block/%s/dm", e->d_name);
        bool mapped = access(path, F_OK) == 0, zram = begins(e->d_name, "zram");
        snprintf(text, sizeof(text), "%s/dev/%s partition 1 0 -2\n", heading, e->d_name);
        assert_true(swap_next(&at, "/sys/class/block", &swap));
        if (!mapped)
            assert_true(zram ? swap.kind == SWAP_ZRAM || swap.kind == SWAP_ZRAM_DISK
                             : swap.kind == SWAP_PLAIN);
    }
    if (list != NULL)
        closedir(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind),
        cmocka_unit_test(none),
        cmocka_unit_test(odd_lines),
        cmocka_unit_test(of_this_machine),
    };
    return cmocka_run_group_tests(tests, make_devices, remove_devices);
}
