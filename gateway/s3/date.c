/* Civil dates of the proleptic Gregorian calendar, and the texts S3 writes them in. */
#include "s3/date.h"
#include <assert.h>
#include <stdio.h>

#define DAY_MS UINT64_C(86400000)

struct civil {
    uint32_t year;
    uint32_t month; /* 1..12 */
    uint32_t day;   /* 1..31 */
    uint32_t hour, minute, second, ms;
};

static const char *const month_names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
/* 1970-01-01 was a Thursday. */
static const char *const day_names[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
static const char *const long_day_names[] = {"Thursday", "Friday",  "Saturday", "Sunday",
                                             "Monday",   "Tuesday", "Wednesday"};

/* Days since 1970-01-01 of the proleptic Gregorian calendar. Years start in March, so that the leap
 * day is the last of its year and months follow a fixed pattern of 153 days in five months. */
static int64_t days_of(uint32_t year, uint32_t month, uint32_t day)
{
    int64_t y = (int64_t)year - (month <= 2);
    int64_t era = y / 400;
    int64_t year_of_era = y - era * 400;
    int64_t month_from_march = (month + 9) % 12;
    int64_t day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static struct civil civil_of(uint64_t ms)
{
    if (ms > S3_DATE_MS_MAX)
        ms = S3_DATE_MS_MAX;
    int64_t days = (int64_t)(ms / DAY_MS) + 719468;
    uint64_t rest = ms % DAY_MS;
    int64_t era = days / 146097;
    int64_t day_of_era = days % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    uint32_t month =
        (uint32_t)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    return (struct civil){
        .year = (uint32_t)(year_of_era + era * 400 + (month <= 2)),
        .month = month,
        .day = (uint32_t)(day_of_year - (153 * month_from_march + 2) / 5 + 1),
        .hour = (uint32_t)(rest / 3600000),
        .minute = (uint32_t)(rest / 60000 % 60),
        .second = (uint32_t)(rest / 1000 % 60),
        .ms = (uint32_t)(rest % 1000),
    };
}

static uint32_t days_in_month(uint32_t year, uint32_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* False for dates that do not exist or lie before 1970. A leap second is taken as the second before
 * it. */
static bool ms_of(struct civil c, uint64_t *out_ms)
{
    if (c.year < 1970 || c.year > 9999 || c.month < 1 || c.month > 12)
        return false;
    if (c.day < 1 || c.day > days_in_month(c.year, c.month))
        return false;
    if (c.hour > 23 || c.minute > 59 || c.second > 60)
        return false;
    uint64_t second = c.second == 60 ? 59 : c.second;
    uint64_t days = (uint64_t)days_of(c.year, c.month, c.day);
    *out_ms = days * DAY_MS + c.hour * UINT64_C(3600000) + c.minute * UINT64_C(60000) +
              second * 1000 + c.ms;
    return true;
}

void s3_date_format_extended(uint64_t ms, char out[S3_DATE_EXTENDED_CHARS + 1])
{
    struct civil c = civil_of(ms);
    char text[80];
    int chars = snprintf(text, sizeof text, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", c.year, c.month,
                         c.day, c.hour, c.minute, c.second, c.ms);
    assert(chars == S3_DATE_EXTENDED_CHARS);
    memcpy(out, text, S3_DATE_EXTENDED_CHARS + 1);
}

void s3_date_format_basic(uint64_t ms, char out[S3_DATE_BASIC_CHARS + 1])
{
    struct civil c = civil_of(ms);
    char text[80];
    int chars = snprintf(text, sizeof text, "%04u%02u%02uT%02u%02u%02uZ", c.year, c.month, c.day,
                         c.hour, c.minute, c.second);
    assert(chars == S3_DATE_BASIC_CHARS);
    memcpy(out, text, S3_DATE_BASIC_CHARS + 1);
}

void s3_date_format_http(uint64_t ms, char out[S3_DATE_HTTP_CHARS + 1])
{
    if (ms > S3_DATE_MS_MAX)
        ms = S3_DATE_MS_MAX;
    struct civil c = civil_of(ms);
    char text[80];
    int chars = snprintf(text, sizeof text, "%s, %02u %s %04u %02u:%02u:%02u GMT",
                         day_names[ms / DAY_MS % 7], c.day, month_names[c.month - 1], c.year,
                         c.hour, c.minute, c.second);
    assert(chars == S3_DATE_HTTP_CHARS);
    memcpy(out, text, S3_DATE_HTTP_CHARS + 1);
}

/* Parsing: each take_* moves the front of `text` or returns false. */

static bool take_digits(struct slice *text, uint32_t count, uint32_t *out_value)
{
    if (text->bytes < count)
        return false;
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t c = text->data[i];
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (uint32_t)(c - '0');
    }
    *text = slice_skip(*text, count);
    *out_value = value;
    return true;
}

static bool take_text(struct slice *text, const char *expected)
{
    struct slice prefix = slice_of_text(expected);
    if (!slice_starts_with(*text, prefix))
        return false;
    *text = slice_skip(*text, prefix.bytes);
    return true;
}

static bool take_month(struct slice *text, uint32_t *out_month)
{
    for (uint32_t i = 0; i < 12; i++) {
        if (take_text(text, month_names[i])) {
            *out_month = i + 1;
            return true;
        }
    }
    return false;
}

static bool take_name(struct slice *text, const char *const names[7], uint32_t *out_day)
{
    for (uint32_t i = 0; i < 7; i++) {
        if (take_text(text, names[i])) {
            *out_day = i;
            return true;
        }
    }
    return false;
}

/* hh:mm:ss */
static bool take_time(struct slice *text, struct civil *c)
{
    return take_digits(text, 2, &c->hour) && take_text(text, ":") &&
           take_digits(text, 2, &c->minute) && take_text(text, ":") &&
           take_digits(text, 2, &c->second);
}

bool s3_date_parse_basic(struct slice text, uint64_t *out_ms)
{
    struct civil c = {0};
    if (!take_digits(&text, 4, &c.year) || !take_digits(&text, 2, &c.month) ||
        !take_digits(&text, 2, &c.day) || !take_text(&text, "T"))
        return false;
    if (!take_digits(&text, 2, &c.hour) || !take_digits(&text, 2, &c.minute) ||
        !take_digits(&text, 2, &c.second) || !take_text(&text, "Z"))
        return false;
    return text.bytes == 0 && ms_of(c, out_ms);
}

/* .ddd...: milliseconds, further digits cut. */
static bool take_fraction(struct slice *text, uint32_t *out_ms)
{
    uint32_t ms = 0;
    uint32_t digits = 0;
    uint32_t digit = 0;
    if (!take_text(text, "."))
        return true;
    for (; take_digits(text, 1, &digit); digits++) {
        if (digits < 3)
            ms = ms * 10 + digit;
        if (digits == 9)
            return false;
    }
    for (uint32_t i = digits; i < 3; i++)
        ms *= 10;
    *out_ms = ms;
    return digits > 0;
}

/* Z or +hh:mm or -hh:mm, as minutes east of Greenwich. */
static bool take_zone(struct slice *text, int32_t *out_minutes)
{
    uint32_t hours = 0;
    uint32_t minutes = 0;
    if (take_text(text, "Z")) {
        *out_minutes = 0;
        return true;
    }
    bool west = take_text(text, "-");
    if (!west && !take_text(text, "+"))
        return false;
    if (!take_digits(text, 2, &hours) || !take_text(text, ":") || !take_digits(text, 2, &minutes))
        return false;
    if (hours > 23 || minutes > 59)
        return false;
    int32_t total = (int32_t)(hours * 60 + minutes);
    *out_minutes = west ? -total : total;
    return true;
}

bool s3_date_parse_extended(struct slice text, uint64_t *out_ms)
{
    struct civil c = {0};
    int32_t zone_minutes = 0;
    if (!take_digits(&text, 4, &c.year) || !take_text(&text, "-") ||
        !take_digits(&text, 2, &c.month) || !take_text(&text, "-") ||
        !take_digits(&text, 2, &c.day))
        return false;
    if (text.bytes == 0)
        return ms_of(c, out_ms);
    if (!take_text(&text, "T") || !take_time(&text, &c) || !take_fraction(&text, &c.ms) ||
        !take_zone(&text, &zone_minutes) || text.bytes != 0)
        return false;
    uint64_t local_ms = 0;
    if (!ms_of(c, &local_ms))
        return false;
    int64_t ms = (int64_t)local_ms - (int64_t)zone_minutes * 60000;
    if (ms < 0 || ms > (int64_t)S3_DATE_MS_MAX)
        return false;
    *out_ms = (uint64_t)ms;
    return true;
}

static bool finish_http(struct civil c, uint32_t weekday, struct slice rest, uint64_t *out_ms)
{
    uint64_t ms = 0;
    if (rest.bytes != 0 || !ms_of(c, &ms) || ms / DAY_MS % 7 != weekday)
        return false;
    *out_ms = ms;
    return true;
}

/* Mon, 12 Oct 2009 17:50:30 GMT */
static bool parse_imf(struct slice text, uint64_t *out_ms)
{
    struct civil c = {0};
    uint32_t weekday = 0;
    if (!take_name(&text, day_names, &weekday) || !take_text(&text, ", ") ||
        !take_digits(&text, 2, &c.day) || !take_text(&text, " ") || !take_month(&text, &c.month) ||
        !take_text(&text, " ") || !take_digits(&text, 4, &c.year) || !take_text(&text, " ") ||
        !take_time(&text, &c) || !take_text(&text, " GMT"))
        return false;
    return finish_http(c, weekday, text, out_ms);
}

/* Monday, 12-Oct-09 17:50:30 GMT */
static bool parse_rfc850(struct slice text, uint64_t *out_ms)
{
    struct civil c = {0};
    uint32_t weekday = 0;
    if (!take_name(&text, long_day_names, &weekday) || !take_text(&text, ", ") ||
        !take_digits(&text, 2, &c.day) || !take_text(&text, "-") || !take_month(&text, &c.month) ||
        !take_text(&text, "-") || !take_digits(&text, 2, &c.year) || !take_text(&text, " ") ||
        !take_time(&text, &c) || !take_text(&text, " GMT"))
        return false;
    c.year += c.year < 70 ? 2000 : 1900;
    return finish_http(c, weekday, text, out_ms);
}

/* Mon Oct 12 17:50:30 2009, a day below 10 with a space before it */
static bool parse_asctime(struct slice text, uint64_t *out_ms)
{
    struct civil c = {0};
    uint32_t weekday = 0;
    if (!take_name(&text, day_names, &weekday) || !take_text(&text, " ") ||
        !take_month(&text, &c.month) || !take_text(&text, " "))
        return false;
    uint32_t day_digits = take_text(&text, " ") ? 1 : 2;
    if (!take_digits(&text, day_digits, &c.day) || !take_text(&text, " ") ||
        !take_time(&text, &c) || !take_text(&text, " ") || !take_digits(&text, 4, &c.year))
        return false;
    return finish_http(c, weekday, text, out_ms);
}

bool s3_date_parse_http(struct slice text, uint64_t *out_ms)
{
    return parse_imf(text, out_ms) || parse_rfc850(text, out_ms) || parse_asctime(text, out_ms);
}
