/* Tests of s3/date.h. */
#include "s3/date.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    uint64_t ms;
    const char *extended;
    const char *basic;
    const char *http;
} dates[] = {
    {0, "1970-01-01T00:00:00.000Z", "19700101T000000Z", "Thu, 01 Jan 1970 00:00:00 GMT"},
    {784111777000, "1994-11-06T08:49:37.000Z", "19941106T084937Z", "Sun, 06 Nov 1994 08:49:37 GMT"},
    {951782399999, "2000-02-28T23:59:59.999Z", "20000228T235959Z", "Mon, 28 Feb 2000 23:59:59 GMT"},
    {951782400000, "2000-02-29T00:00:00.000Z", "20000229T000000Z", "Tue, 29 Feb 2000 00:00:00 GMT"},
    {1369353600000, "2013-05-24T00:00:00.000Z", "20130524T000000Z",
     "Fri, 24 May 2013 00:00:00 GMT"},
    {4107542400000, "2100-03-01T00:00:00.000Z", "21000301T000000Z",
     "Mon, 01 Mar 2100 00:00:00 GMT"},
    {S3_DATE_MS_MAX, "9999-12-31T23:59:59.999Z", "99991231T235959Z",
     "Fri, 31 Dec 9999 23:59:59 GMT"},
};

static void every_form_prints_and_parses_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        char extended[S3_DATE_EXTENDED_CHARS + 1];
        char basic[S3_DATE_BASIC_CHARS + 1];
        char http[S3_DATE_HTTP_CHARS + 1];
        uint64_t ms = 1;
        s3_date_format_extended(dates[i].ms, extended);
        s3_date_format_basic(dates[i].ms, basic);
        s3_date_format_http(dates[i].ms, http);
        assert_string_equal(extended, dates[i].extended);
        assert_string_equal(basic, dates[i].basic);
        assert_string_equal(http, dates[i].http);
        assert_true(s3_date_parse_extended(slice_of_text(extended), &ms));
        assert_int_equal(ms, dates[i].ms);
        assert_true(s3_date_parse_basic(slice_of_text(basic), &ms));
        assert_int_equal(ms, dates[i].ms / 1000 * 1000);
        assert_true(s3_date_parse_http(slice_of_text(http), &ms));
        assert_int_equal(ms, dates[i].ms / 1000 * 1000);
    }
}

static void every_day_of_five_centuries_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint64_t day = 0; day < 500 * 366; day++) {
        char http[S3_DATE_HTTP_CHARS + 1];
        uint64_t ms = 0;
        s3_date_format_http(day * 86400000, http);
        assert_true(s3_date_parse_http(slice_of_text(http), &ms));
        assert_int_equal(ms, day * 86400000);
    }
}

static void http_dates_come_in_three_forms(void **state)
{
    (void)state;
    static const char *const texts[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                        "Sunday, 06-Nov-94 08:49:37 GMT",
                                        "Sun Nov  6 08:49:37 1994"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t ms = 0;
        assert_true(s3_date_parse_http(slice_of_text(texts[i]), &ms));
        assert_int_equal(ms, 784111777000);
    }
}

static void extended_dates_take_fractions_and_zones(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } cases[] = {
        {"1994-11-06T08:49:37Z", 784111777000},
        {"1994-11-06T08:49:37.5Z", 784111777500},
        {"1994-11-06T08:49:37.123456789Z", 784111777123},
        {"1994-11-06T09:49:37+01:00", 784111777000},
        {"1994-11-06T03:19:37.000-05:30", 784111777000},
        {"1994-11-06", 784080000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms = 0;
        assert_true(s3_date_parse_extended(slice_of_text(cases[i].text), &ms));
        assert_int_equal(ms, cases[i].ms);
    }
}

static void what_is_not_a_date_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "20130524T000000",
        "20130524T000000z",
        " 20130524T000000Z",
        "20130524T000000Z ",
        "20130230T000000Z",
        "20130524T240000Z",
        "20130024T000000Z",
        "20131324T000000Z",
        "19691231T235959Z",
        "2013-05-24T00:00:00",
        "2013-05-24T00:00:00.Z",
        "2013-05-24T00:00:00+25:00",
        "2013-05-24 00:00:00Z",
        "2013-5-24T00:00:00Z",
        "1970-01-01T00:00:00+00:01",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun, 31 Feb 1994 08:49:37 GMT",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t ms = 7;
        assert_false(s3_date_parse_basic(slice_of_text(texts[i]), &ms));
        assert_false(s3_date_parse_extended(slice_of_text(texts[i]), &ms));
        assert_false(s3_date_parse_http(slice_of_text(texts[i]), &ms));
        assert_int_equal(ms, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_prints_and_parses_back),
        cmocka_unit_test(every_day_of_five_centuries_survives_a_round_trip),
        cmocka_unit_test(http_dates_come_in_three_forms),
        cmocka_unit_test(extended_dates_take_fractions_and_zones),
        cmocka_unit_test(what_is_not_a_date_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
