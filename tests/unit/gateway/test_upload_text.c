/* Upload ids as clients see them: round trip, and what is refused. */
#include "upload_text.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

static const uint64_t ids[] = {1, 2, 255, 256, UINT64_C(1) << 40, UINT64_MAX};

static void an_id_survives_its_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct upload_text text = upload_text_of(ids[i]);
        assert_int_equal(strlen(text.text), UPLOAD_TEXT_CHARS);
        uint64_t id = 0;
        assert_true(upload_text_parse(slice_of_text(text.text), &id));
        assert_int_equal(id, ids[i]);
    }
}

/* Texts are with clients for days: this one must stay readable. */
static void the_text_of_an_id_never_changes(void **state)
{
    (void)state;
    assert_string_equal(upload_text_of(12345).text, "a17f2910fc6270caa17f2910fc6240f3");
}

static void a_changed_text_is_refused(void **state)
{
    (void)state;
    struct upload_text text = upload_text_of(12345);
    for (int i = 0; i < UPLOAD_TEXT_CHARS; i++) {
        struct upload_text changed = text;
        changed.text[i] = changed.text[i] == '0' ? '1' : '0';
        uint64_t id = 77;
        assert_false(upload_text_parse(slice_of_text(changed.text), &id));
        assert_int_equal(id, 77);
    }
}

static void garbage_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "1",
        "no-such-upload",
        "00000000000000000000000000000000",
        "0000000000000000000000000000000g",
        "2~JZdbXpZk8sGZ0Yc0JwGQ2zQmJm0eS7E",
    };
    uint64_t id;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_false(upload_text_parse(slice_of_text(texts[i]), &id));
    assert_false(upload_text_parse(slice_of(NULL, 0), &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_survives_its_text),
        cmocka_unit_test(the_text_of_an_id_never_changes),
        cmocka_unit_test(a_changed_text_is_refused),
        cmocka_unit_test(garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
