/* Which file systems overwrite in place: the reading of what the kernel says, and a look at the
 * ones that are here. */
#include "daemon/inplace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char mounts[] =
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
    "27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n"
    "28 27 8:17 / /with\\040space rw - ext3 /dev/sdb1 rw,data=journal,commit=5\n"
    "29 27 8:1 /sub /data rw - xfs /dev/mapper/a-b rw,attr2\n"
    "30 27 0:40 / /odd rw - fuse.odd\n"
    "31 27 0:41 / /cut";

static void test_find_mount(void **state)
{
    struct inplace_mount m;
    (void)state;
    assert_true(inplace_find_mount(mounts, 254, 0, &m));
    assert_string_equal(m.type, "ext4");
    assert_string_equal(m.source, "/dev/vda");
    assert_string_equal(m.options, "rw,discard");
    assert_true(inplace_find_mount(mounts, 8, 17, &m));
    assert_string_equal(m.type, "ext3");
    assert_true(inplace_has_option(m.options, "data=journal"));
    assert_true(inplace_find_mount(mounts, 8, 1, &m));
    assert_string_equal(m.type, "xfs");
    assert_true(inplace_find_mount(mounts, 0, 21, &m));
    assert_string_equal(m.type, "proc");
    assert_false(inplace_find_mount(mounts, 8, 7, &m));
    assert_false(inplace_find_mount(mounts, 0, 40, &m)); /* a line that is cut off */
    assert_false(inplace_find_mount(mounts, 0, 41, &m));
    assert_false(inplace_find_mount("", 0, 41, &m));
    assert_string_equal(m.type, "");
}

/* Whatever the length of a field: cut, never beyond. */
static void test_long_mount(void **state)
{
    struct inplace_mount m;
    char line[8192];
    (void)state;
    memset(line, 'x', sizeof(line));
    memcpy(line, "1 2 3:4 / / rw - ", 17);
    line[2000] = line[4000] = ' ';
    line[sizeof(line) - 1] = '\0';
    assert_true(inplace_find_mount(line, 3, 4, &m));
    assert_int_equal(strlen(m.type), sizeof(m.type) - 1);
    assert_int_equal(strlen(m.source), sizeof(m.source) - 1);
    assert_int_equal(strlen(m.options), sizeof(m.options) - 1);
}

static void test_options(void **state)
{
    (void)state;
    assert_true(inplace_has_option("rw,data=journal", "data=journal"));
    assert_true(inplace_has_option("data=journal\nrw\n", "data=journal"));
    assert_true(inplace_has_option("rw\nbsddf\ndata=journal\n", "data=journal"));
    assert_false(inplace_has_option("rw,data=ordered", "data=journal"));
    assert_false(inplace_has_option("rw,xdata=journal", "data=journal"));
    assert_false(inplace_has_option("rw,data=journals", "data=journal"));
    assert_false(inplace_has_option("", "data=journal"));
    assert_false(inplace_has_option("nodata=journal_async_commit", "data=journal"));
}

static void test_here(void **state)
{
    struct inplace p;
    (void)state;
    int fd = open("/dev/shm", O_RDONLY | O_CLOEXEC);
    inplace_look(fd, &p);
    assert_true(p.holds);
    assert_string_equal(p.name, "tmpfs");
    close(fd);
    fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    inplace_look(fd, &p);
    assert_false(p.holds);
    assert_string_equal(p.name, "proc");
    assert_non_null(p.why);
    close(fd);
    inplace_look(-1, &p);
    assert_false(p.holds);
    assert_string_equal(p.name, "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_mount),
        cmocka_unit_test(test_long_mount),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
