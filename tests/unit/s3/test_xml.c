/* The XML writer: escaping, what XML 1.0 cannot carry, and the shape of documents. */
#include "s3/xml.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_written(const struct bytes *out, const char *expected)
{
    assert_int_equal(out->bytes, strlen(expected));
    assert_memory_equal(out->data, expected, out->bytes);
}

static void text_is_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice text;
        const char *expected;
    } cases[] = {
        {"empty", {NULL, 0}, ""},
        {"plain", SLICE_LITERAL("photos/2024 a+b"), "photos/2024 a+b"},
        {"markup", SLICE_LITERAL("<a&b>\"'"), "&lt;a&amp;b&gt;&quot;&apos;"},
        {"white space survives a parser", SLICE_LITERAL("a\tb\nc\rd"), "a&#x9;b&#xA;c&#xD;d"},
        {"controls", SLICE_LITERAL("\x01x\x1f"), "&#x1;x&#x1F;"},
        {"NUL", SLICE_LITERAL("a\0b"), "a&#x0;b"},
        {"delete is a character of XML", SLICE_LITERAL("\x7f"), "\x7f"},
        {"UTF-8", SLICE_LITERAL("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
         "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"U+FFFE and U+FFFF", SLICE_LITERAL("a\xef\xbf\xbe\xef\xbf\xbf"), "a&#xFFFE;&#xFFFF;"},
        {"U+FFFD is fine", SLICE_LITERAL("\xef\xbf\xbd"), "\xef\xbf\xbd"},
        {"not UTF-8", SLICE_LITERAL("a\xff<b"), "a\xef\xbf\xbd&lt;b"},
        {"cut UTF-8", SLICE_LITERAL("ab\xe2\x82"), "ab\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) out = {.max = 1024};
        print_message("%s\n", cases[i].name);
        xml_append_escaped(&out, cases[i].text);
        assert_written(&out, cases[i].expected);
    }
}

static void a_document_closes_what_it_opened(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 4096};
    struct xml_writer xml = xml_document(&out, "ListBucketResult", true);
    xml_element_text(&xml, "Name", "b<1>");
    xml_element_u64(&xml, "MaxKeys", UINT64_MAX);
    xml_element_bool(&xml, "IsTruncated", false);
    xml_open(&xml, "Contents");
    xml_element_key(&xml, "Key", SLICE_LITERAL("a b/\xc3\xa9"));
    xml_element_etag(&xml, "ETag", SLICE_LITERAL("d41d8cd9-2"));
    xml_close(&xml);
    xml_open_with(&xml, "Grantee", "xsi:type=\"Group\"");
    xml_element(&xml, "URI", slice_of(NULL, 0));
    xml_finish(&xml);
    assert_false(out.overflow);
    assert_written(&out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                         "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                         "<Name>b&lt;1&gt;</Name><MaxKeys>18446744073709551615</MaxKeys>"
                         "<IsTruncated>false</IsTruncated>"
                         "<Contents><Key>a b/\xc3\xa9</Key><ETag>&quot;d41d8cd9-2&quot;</ETag>"
                         "</Contents><Grantee xsi:type=\"Group\"><URI></URI></Grantee>"
                         "</ListBucketResult>");
}

static void keys_are_percent_encoded_when_the_client_asks(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 4096};
    struct xml_writer xml = xml_fragment(&out);
    xml.url_encode = true;
    xml_element_key(&xml, "Key", SLICE_LITERAL("a b/\xc3\xa9+(3)&\x01"));
    xml_element(&xml, "Name", SLICE_LITERAL("a b"));
    assert_written(&out, "<Key>a%20b/%C3%A9%2B%283%29%26%01</Key><Name>a b</Name>");
}

static void running_out_of_room_shows_in_overflow(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) out = {.max = 60};
    struct xml_writer xml = xml_document(&out, "Error", false);
    xml_element_text(&xml, "Message", "more than sixty bytes of answer");
    xml_finish(&xml);
    assert_true(out.overflow);
    assert_true(out.bytes <= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(a_document_closes_what_it_opened),
        cmocka_unit_test(keys_are_percent_encoded_when_the_client_asks),
        cmocka_unit_test(running_out_of_room_shows_in_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
