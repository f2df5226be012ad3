/* Fields in and out of bounded buffers: what fits, what does not, and that errors stick. */
#include "envelope/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void round_trip(void **state)
{
    (void)state;
    uint8_t buf[64], copy[3];
    size_t len;
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, 0x01);
    wire_put_u16(&out, 0x0203);
    wire_put_u32(&out, 0x04050607);
    wire_put_u64(&out, 0x08090a0b0c0d0e0f);
    wire_put_bytes(&out, "abc", 3);
    wire_put_str(&out, "hello");
    wire_put_b32(&out, "", 0);
    assert_true(wire_out_ok(&out));
    assert_int_equal(out.len, 15 + 3 + 7 + 4);
    for (uint8_t i = 0; i < 15; i++)
        assert_int_equal(buf[i], i + 1); /* big-endian */
    struct wire_in in = wire_in(buf, out.len);
    assert_int_equal(wire_get_u8(&in), 0x01);
    assert_int_equal(wire_get_u16(&in), 0x0203);
    assert_int_equal(wire_get_u32(&in), 0x04050607);
    assert_int_equal(wire_get_u64(&in), 0x08090a0b0c0d0e0f);
    wire_get_copy(&in, copy, 3);
    assert_memory_equal(copy, "abc", 3);
    const uint8_t *hello = wire_get_b16(&in, 5, &len);
    assert_int_equal(len, 5);
    assert_memory_equal(hello, "hello", 5);
    assert_non_null(wire_get_b32(&in, 0, &len)); /* empty is not an error */
    assert_int_equal(len, 0);
    assert_true(wire_in_done(&in));
}

static void bytes_left_over(void **state)
{
    (void)state;
    struct wire_in in = wire_in("\0\1\2", 3);
    assert_false(wire_in_done(&in));
    assert_int_equal(wire_get_u16(&in), 1);
    assert_false(wire_in_done(&in));
    wire_get_u8(&in);
    assert_true(wire_in_done(&in));
}

/* After the first error all else reads as zeros, even what would have fitted. */
static void reading_errors_stick(void **state)
{
    (void)state;
    uint8_t copy[2] = {9, 9};
    size_t len = 9;
    struct wire_in in = wire_in("\1\2\3", 3);
    assert_int_equal(wire_get_u32(&in), 0);
    assert_int_equal(wire_get_u8(&in), 0);
    wire_get_copy(&in, copy, 2);
    assert_int_equal(copy[0] + copy[1], 0);
    assert_null(wire_get_bytes(&in, 0));
    assert_null(wire_get_b16(&in, 10, &len));
    assert_int_equal(len, 0);
    assert_false(wire_in_done(&in));
}

static void lengths_are_checked(void **state)
{
    (void)state;
    size_t len;
    struct wire_in over_max = wire_in("\0\3abc", 5);
    assert_null(wire_get_b16(&over_max, 2, &len));
    assert_false(wire_in_done(&over_max));
    struct wire_in too_short = wire_in("\0\4abc", 5);
    assert_null(wire_get_b16(&too_short, 100, &len));
    struct wire_in huge = wire_in("\xff\xff\xff\xff"
                                  "a",
                                  5);
    assert_null(wire_get_b32(&huge, SIZE_MAX, &len));
    assert_int_equal(len, 0);
    struct wire_in all = wire_in("ab", 2);
    assert_null(wire_get_bytes(&all, SIZE_MAX));
    struct wire_in none = wire_in(NULL, 0);
    assert_true(wire_in_done(&none));
    assert_int_equal(wire_get_u8(&none), 0);
    assert_false(wire_in_done(&none));
}

static void failing_by_hand(void **state)
{
    (void)state;
    struct wire_in in = wire_in("ab", 2);
    wire_in_fail(&in);
    assert_null(wire_get_bytes(&in, 1));
    assert_false(wire_in_done(&in));
}

/* A full buffer takes nothing more, not even what is shorter, and nothing behind it is touched. */
static void writing_errors_stick(void **state)
{
    (void)state;
    uint8_t buf[5] = {0, 0, 0, 0, 0xee};
    struct wire_out out = wire_out(buf, 4);
    wire_put_u16(&out, 1);
    wire_put_u32(&out, 2);
    assert_false(wire_out_ok(&out));
    wire_put_u8(&out, 3);
    assert_false(wire_out_ok(&out));
    assert_int_equal(out.len, 2);
    assert_int_equal(buf[4], 0xee);
}

static void counted_fields_do_not_wrap(void **state)
{
    (void)state;
    static uint8_t buf[1 << 17], big[UINT16_MAX + 1];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_b16(&out, big, UINT16_MAX);
    assert_true(wire_out_ok(&out));
    wire_put_b16(&out, big, sizeof(big));
    assert_false(wire_out_ok(&out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(bytes_left_over),
        cmocka_unit_test(reading_errors_stick),
        cmocka_unit_test(lengths_are_checked),
        cmocka_unit_test(failing_by_hand),
        cmocka_unit_test(writing_errors_stick),
        cmocka_unit_test(counted_fields_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
