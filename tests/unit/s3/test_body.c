/* Request bodies: what is read, what is refused, and that the split of the input changes
 * nothing. */
#include "base/bytes.h"
#include "s3/body.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""
#define XSI " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""

/* Parse `text` in steps of `step` bytes; the parser stays with the caller, who owns the result. */
static enum s3_error parse(struct body_parser *parser, struct slice text, size_t step,
                           const struct body **out_body)
{
    for (; text.bytes > 0; text = slice_skip(text, step))
        TRY(body_parser_feed(parser, slice_first(text, step)));
    return body_parser_finish(parser, out_body);
}

static enum s3_error parse_error(enum body_kind kind, struct slice text)
{
    static const size_t steps[] = {1, 3, 4095, 1 << 20};
    enum s3_error errors[4];
    for (size_t i = 0; i < 4; i++) {
        AUTO(body_parser) parser = body_parser_new(kind, NULL);
        const struct body *body;
        errors[i] = parse(parser, text, steps[i], &body);
        assert_int_equal(errors[i], errors[0]);
    }
    return errors[0];
}

static void assert_text(struct slice slice, const char *expected)
{
    assert_int_equal(slice.bytes, strlen(expected));
    assert_memory_equal(slice.data, expected, slice.bytes);
}

static void a_delete_names_keys_versions_and_conditions(void **state)
{
    (void)state;
    static const char text[] =
        "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- don't -->\n"
        "<Delete" NS ">\n  <Quiet> True\n</Quiet>\n"
        "  <Object><Key> a &lt;b&gt; &amp;&#x1F600;&#13; </Key></Object>\n"
        "  <Object><VersionId>null</VersionId><Key><![CDATA[<x>&amp;]]>y</Key>\n"
        "    <ETag>&quot;abc&quot;</ETag><Size>18446744073709551615</Size>"
        "<LastModifiedTime>2009-10-12T17:50:30Z</LastModifiedTime><New><Er/>x</New></Object>\n"
        "  <Unknown a='>'><Object><Key>no</Key></Object></Unknown>\n"
        "</Delete>\n<!-- end --><?done?>\n";
    for (size_t step = 1; step < sizeof text; step += 61) {
        AUTO(body_parser) parser = body_parser_new(BODY_DELETE, NULL);
        const struct body *body;
        assert_int_equal(parse(parser, slice_of_text(text), step, &body), S3_OK);
        const struct body_delete *delete = &body->delete;
        assert_true(delete->quiet);
        assert_int_equal(delete->object_count, 2);
        assert_text(delete->objects[0].key, " a <b> &\xf0\x9f\x98\x80\r ");
        assert_int_equal(delete->objects[0].version_id.bytes, 0);
        assert_int_equal(delete->objects[0].etag.bytes, 0);
        assert_false(delete->objects[0].has_size);
        assert_text(delete->objects[1].key, "<x>&amp;y");
        assert_text(delete->objects[1].version_id, "null");
        assert_text(delete->objects[1].etag, "abc");
        assert_text(delete->objects[1].last_modified_time, "2009-10-12T17:50:30Z");
        assert_true(delete->objects[1].has_size);
        assert_true(delete->objects[1].size == UINT64_MAX);
    }
}

static void a_complete_names_parts_in_order(void **state)
{
    (void)state;
    static const char text[] =
        "<s3:CompleteMultipartUpload xmlns:s3='urn:x'>"
        "<Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag>"
        "<ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part>"
        "<Part><ETag>b</ETag><PartNumber>\n 10001 </PartNumber><ChecksumSHA1></ChecksumSHA1></Part>"
        "</s3:CompleteMultipartUpload>";
    AUTO(body_parser) parser = body_parser_new(BODY_COMPLETE_MULTIPART, NULL);
    const struct body *body;
    assert_int_equal(parse(parser, slice_of_text(text), 5, &body), S3_OK);
    assert_int_equal(body->complete.part_count, 2);
    assert_true(body->complete.ascending);
    const struct body_part *parts = body->complete.parts;
    assert_int_equal(parts[0].part_number, 1);
    assert_text(parts[0].etag, "a");
    assert_int_equal(parts[0].checksum.algorithm, CHECKSUM_CRC32);
    assert_int_equal(parts[0].checksum.value[0], 0xcb);
    assert_int_equal(parts[1].part_number, 10001);
    assert_text(parts[1].etag, "b");
    assert_int_equal(parts[1].checksum.algorithm, CHECKSUM_NONE);
}

static void parts_out_of_order_are_told(void **state)
{
    (void)state;
    static const struct {
        int first, second;
        bool ascending;
    } cases[] = {{1, 2, true}, {2, 2, false}, {3, 2, false}, {1, 10000, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) text = {.max = 1024};
        bytes_append_format(&text,
                            "<CompleteMultipartUpload><Part><PartNumber>%d</PartNumber><ETag/>"
                            "</Part><Part><PartNumber>%d</PartNumber><ETag/></Part>"
                            "</CompleteMultipartUpload>",
                            cases[i].first, cases[i].second);
        AUTO(body_parser) parser = body_parser_new(BODY_COMPLETE_MULTIPART, NULL);
        const struct body *body;
        assert_int_equal(parse(parser, bytes_slice(&text), 1000, &body), S3_OK);
        assert_int_equal(body->complete.ascending, cases[i].ascending);
    }
}

static void a_bucket_configuration_may_be_empty(void **state)
{
    (void)state;
    static const struct {
        const char *text, *location;
        uint32_t tag_count;
    } cases[] = {
        {"", "", 0},
        {"<CreateBucketConfiguration/>", "", 0},
        {"<CreateBucketConfiguration" NS "><LocationConstraint>eu-west-1</LocationConstraint>"
         "</CreateBucketConfiguration >",
         "eu-west-1", 0},
        {"<CreateBucketConfiguration><Location><Name>x</Name></Location><Tags><Tag><Key>k</Key>"
         "<Value>v</Value></Tag></Tags><LocationConstraint/></CreateBucketConfiguration>",
         "", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(body_parser) parser = body_parser_new(BODY_CREATE_BUCKET, NULL);
        const struct body *body;
        assert_int_equal(parse(parser, slice_of_text(cases[i].text), 7, &body), S3_OK);
        assert_text(body->create_bucket.location_constraint, cases[i].location);
        assert_int_equal(body->create_bucket.tagging.tag_count, cases[i].tag_count);
    }
}

#define POLICY(grants)                                                                             \
    "<AccessControlPolicy" NS "><Owner><ID>me</ID><DisplayName>I</DisplayName></Owner>"            \
    "<AccessControlList>" grants "</AccessControlList></AccessControlPolicy>"
#define GRANT(type, who, permission)                                                               \
    "<Grant><Grantee" XSI " xsi:type=\"" type "\">" who "</Grantee><Permission>" permission        \
    "</Permission></Grant>"

static void a_policy_that_gives_only_the_owner_is_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t grant_count;
        bool owner_only;
    } cases[] = {
        {POLICY(GRANT("CanonicalUser", "<ID>me</ID><DisplayName>I</DisplayName>", "FULL_CONTROL")),
         1, true},
        {POLICY("<Grant><Grantee><ID>me</ID></Grantee><Permission>FULL_CONTROL</Permission>"
                "</Grant>"),
         1, true},
        {POLICY(""), 0, false},
        {POLICY(GRANT("CanonicalUser", "<ID>you</ID>", "FULL_CONTROL")), 1, false},
        {POLICY(GRANT("CanonicalUser", "<ID>me</ID>", "READ")), 1, false},
        {POLICY(GRANT("CanonicalUser", "<ID>me</ID>", "FULL_CONTROL") GRANT(
             "Group", "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", "READ")),
         2, false},
        {POLICY(GRANT("AmazonCustomerByEmail", "<EmailAddress>me</EmailAddress>", "FULL_CONTROL")),
         1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO(body_parser) parser = body_parser_new(BODY_ACCESS_CONTROL_POLICY, NULL);
        const struct body *body;
        assert_int_equal(parse(parser, slice_of_text(cases[i].text), 11, &body), S3_OK);
        assert_text(body->access_control_policy.owner_id, "me");
        assert_int_equal(body->access_control_policy.grant_count, cases[i].grant_count);
        assert_int_equal(body_acl_is_owner_only(&body->access_control_policy), cases[i].owner_only);
    }
}

static void grants_keep_type_and_permission(void **state)
{
    (void)state;
    AUTO(body_parser) parser = body_parser_new(BODY_ACCESS_CONTROL_POLICY, NULL);
    const struct body *body;
    assert_int_equal(
        parse(parser,
              SLICE_LITERAL(POLICY(GRANT("Group", "<ID>x</ID><URI>g</URI>", "WRITE_ACP") GRANT(
                  "AmazonCustomerByEmail", "<EmailAddress>a@b</EmailAddress>", "READ_ACP"))),
              4096, &body),
        S3_OK);
    const struct body_grant *grants = body->access_control_policy.grants;
    assert_int_equal(grants[0].type, BODY_GRANTEE_GROUP);
    assert_text(grants[0].grantee, "g");
    assert_int_equal(grants[0].permission, BODY_PERMISSION_WRITE_ACP);
    assert_int_equal(grants[1].type, BODY_GRANTEE_EMAIL);
    assert_text(grants[1].grantee, "a@b");
    assert_int_equal(grants[1].permission, BODY_PERMISSION_READ_ACP);
}

static void malformed_bodies_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum body_kind kind;
        const char *text;
    } cases[] = {
        {"empty", BODY_DELETE, ""},
        {"not XML", BODY_DELETE, "Key=a"},
        {"other root", BODY_DELETE, "<Tagging><TagSet/></Tagging>"},
        {"root in lower case", BODY_DELETE, "<delete><Object><Key>a</Key></Object></delete>"},
        {"not closed", BODY_DELETE, "<Delete><Object><Key>a</Key></Object>"},
        {"crossed tags", BODY_DELETE, "<Delete><Object><Key>a</Object></Key></Delete>"},
        {"two roots", BODY_DELETE, "<Delete><Object><Key>a</Key></Object></Delete><Delete/>"},
        {"text behind", BODY_DELETE, "<Delete><Object><Key>a</Key></Object></Delete>x"},
        {"no object", BODY_DELETE, "<Delete><Quiet>true</Quiet></Delete>"},
        {"object without key", BODY_DELETE, "<Delete><Object/></Delete>"},
        {"empty key", BODY_DELETE, "<Delete><Object><Key></Key></Object></Delete>"},
        {"two keys", BODY_DELETE, "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>"},
        {"element in a key", BODY_DELETE, "<Delete><Object><Key>a<b/></Key></Object></Delete>"},
        {"text in an object", BODY_DELETE, "<Delete><Object>x<Key>a</Key></Object></Delete>"},
        {"quiet is not a boolean", BODY_DELETE,
         "<Delete><Quiet>yes</Quiet><Object><Key>a</Key></Object></Delete>"},
        {"size is not a number", BODY_DELETE,
         "<Delete><Object><Key>a</Key><Size>-1</Size></Object></Delete>"},
        {"character that XML lacks", BODY_DELETE,
         "<Delete><Object><Key>&#x1;</Key></Object></Delete>"},
        {"raw control", BODY_DELETE, "<Delete><Object><Key>\x01</Key></Object></Delete>"},
        {"not UTF-8", BODY_DELETE, "<Delete><Object><Key>\xff</Key></Object></Delete>"},
        {"Latin-1 as declared", BODY_DELETE,
         "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><Delete><Object><Key>\xe9</Key></Object>"
         "</Delete>"},
        {"DOCTYPE", BODY_DELETE, "<!DOCTYPE Delete><Delete><Object><Key>a</Key></Object></Delete>"},
        {"external DTD", BODY_DELETE,
         "<!DOCTYPE Delete SYSTEM \"file:///etc/passwd\"><Delete><Object><Key>a</Key></Object>"
         "</Delete>"},
        {"external entity", BODY_DELETE,
         "<!DOCTYPE d [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Delete><Object><Key>&x;</Key>"
         "</Object></Delete>"},
        {"billion laughs", BODY_DELETE,
         "<!DOCTYPE d [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Delete><Object><Key>&b;</Key>"
         "</Object></Delete>"},
        {"unknown entity", BODY_DELETE, "<Delete><Object><Key>&nbsp;</Key></Object></Delete>"},
        {"too deep", BODY_DELETE,
         "<Delete><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a>"
         "</a></a></a></a></a></a></a></a><Object><Key>a</Key></Object></Delete>"},
        {"no part", BODY_COMPLETE_MULTIPART, "<CompleteMultipartUpload/>"},
        {"no part number", BODY_COMPLETE_MULTIPART,
         "<CompleteMultipartUpload><Part><ETag>a</ETag></Part></CompleteMultipartUpload>"},
        {"no etag", BODY_COMPLETE_MULTIPART,
         "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part>"
         "<Part><PartNumber>2</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>"},
        {"no etag in the second part", BODY_COMPLETE_MULTIPART,
         "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part>"
         "<Part><PartNumber>2</PartNumber></Part></CompleteMultipartUpload>"},
        {"part number is a word", BODY_COMPLETE_MULTIPART,
         "<CompleteMultipartUpload><Part><PartNumber>one</PartNumber><ETag>a</ETag></Part>"
         "</CompleteMultipartUpload>"},
        {"part number too large", BODY_COMPLETE_MULTIPART,
         "<CompleteMultipartUpload><Part><PartNumber>4294967296</PartNumber><ETag>a</ETag></Part>"
         "</CompleteMultipartUpload>"},
        {"blank bucket configuration", BODY_CREATE_BUCKET, " "},
        {"no tag set", BODY_TAGGING, "<Tagging/>"},
        {"no CORS rule", BODY_CORS, "<CORSConfiguration/>"},
        {"two ids of a CORS rule", BODY_CORS,
         "<CORSConfiguration><CORSRule><ID>a</ID><ID>b</ID></CORSRule></CORSConfiguration>"},
        {"text in a CORS rule", BODY_CORS,
         "<CORSConfiguration><CORSRule>x</CORSRule></CORSConfiguration>"},
        {"two tag sets", BODY_TAGGING, "<Tagging><TagSet/><TagSet/></Tagging>"},
        {"tag without value", BODY_TAGGING,
         "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>"},
        {"tag without key", BODY_TAGGING,
         "<Tagging><TagSet><Tag><Value>a</Value></Tag></TagSet></Tagging>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i].name);
        assert_int_equal(parse_error(cases[i].kind, slice_of_text(cases[i].text)),
                         S3_MALFORMED_XML);
    }
}

static void malformed_policies_have_their_own_error(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "<AccessControlPolicy>",
        "<AccessControlPolicy/>",
        "<AccessControlPolicy><Owner><ID>me</ID></Owner></AccessControlPolicy>",
        "<AccessControlPolicy><Owner/><AccessControlList/></AccessControlPolicy>",
        "<AccessControlPolicy><AccessControlList/></AccessControlPolicy>",
        POLICY("<Grant><Permission>READ</Permission></Grant>"),
        POLICY("<Grant><Grantee><ID>a</ID></Grantee></Grant>"),
        POLICY("<Grant><Grantee/><Permission>READ</Permission></Grant>"),
        POLICY("<Grant><Grantee><ID>a</ID><URI>b</URI></Grantee><Permission>READ</Permission></"
               "Grant>"),
        POLICY(GRANT("CanonicalUser", "<ID>me</ID>", "EVERYTHING")),
        POLICY(GRANT("CanonicalUser", "<URI>me</URI>", "READ")),
        POLICY(GRANT("Martian", "<ID>me</ID>", "READ")),
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i]);
        assert_int_equal(parse_error(BODY_ACCESS_CONTROL_POLICY, slice_of_text(cases[i])),
                         S3_MALFORMED_ACL);
    }
}

static void bad_part_values_are_invalid_arguments(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "<PartNumber>0</PartNumber><ETag>a</ETag>",
        "<PartNumber>-1</PartNumber><ETag>a</ETag>",
        "<PartNumber>1</PartNumber><ETag>a</ETag><ChecksumCRC32>bad</ChecksumCRC32>",
        "<PartNumber>1</PartNumber><ETag>a</ETag><ChecksumCRC32C>y/Q5Jg==-1</ChecksumCRC32C>",
        "<PartNumber>1</PartNumber><ETag>a</ETag><ChecksumCRC64NVME>y/Q5Jg==</ChecksumCRC64NVME>",
        "<ETag/><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32><ChecksumCRC32C>4waSgw==</ChecksumCRC32C>",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) text = {.max = 1024};
        bytes_append_format(
            &text, "<CompleteMultipartUpload><Part>%s</Part></CompleteMultipartUpload>", cases[i]);
        assert_int_equal(parse_error(BODY_COMPLETE_MULTIPART, bytes_slice(&text)),
                         S3_INVALID_ARGUMENT);
        AUTO_VALUE(s3_failure) failure = {0};
        AUTO(body_parser) parser = body_parser_new(BODY_COMPLETE_MULTIPART, &failure);
        const struct body *body;
        assert_int_equal(parse(parser, bytes_slice(&text), 100, &body), S3_INVALID_ARGUMENT);
        assert_string_equal(failure.details[0].element, "ArgumentName");
    }
}

/* A body of `count` entries, each `entry`. */
static void append_repeated(struct bytes *out, const char *open, const char *entry, uint32_t count,
                            const char *close)
{
    bytes_append_text(out, open);
    for (uint32_t i = 0; i < count; i++)
        bytes_append_text(out, entry);
    bytes_append_text(out, close);
    assert_false(out->overflow);
}

static void counts_are_limited(void **state)
{
    (void)state;
    static const struct {
        enum body_kind kind;
        const char *open, *entry, *close;
        uint32_t count;
        enum s3_error error;
    } cases[] = {
        {BODY_DELETE, "<Delete>", "<Object><Key>a</Key></Object>", "</Delete>", 1000, S3_OK},
        {BODY_DELETE, "<Delete>", "<Object><Key>a</Key></Object>", "</Delete>", 1001,
         S3_MALFORMED_XML},
        {BODY_COMPLETE_MULTIPART, "<CompleteMultipartUpload>",
         "<Part><PartNumber>7</PartNumber><ETag>0123456789abcdef0123456789abcdef</ETag></Part>",
         "</CompleteMultipartUpload>", 10000, S3_OK},
        {BODY_COMPLETE_MULTIPART, "<CompleteMultipartUpload>",
         "<Part><PartNumber>7</PartNumber><ETag>0123456789abcdef0123456789abcdef</ETag></Part>",
         "</CompleteMultipartUpload>", 10001, S3_MALFORMED_XML},
        {BODY_TAGGING, "<Tagging><TagSet>", "<Tag><Key>a</Key><Value/></Tag>",
         "</TagSet></Tagging>", 1000, S3_OK},
        {BODY_ACCESS_CONTROL_POLICY,
         "<AccessControlPolicy><Owner><ID>a</ID></Owner>"
         "<AccessControlList>",
         "<Grant><Grantee><ID>a</ID></Grantee><Permission>READ</Permission></Grant>",
         "</AccessControlList></AccessControlPolicy>", 101, S3_MALFORMED_ACL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        AUTO_VALUE(bytes) text = {.max = 2 << 20};
        append_repeated(&text, cases[i].open, cases[i].entry, cases[i].count, cases[i].close);
        AUTO(body_parser) parser = body_parser_new(cases[i].kind, NULL);
        const struct body *body;
        assert_int_equal(parse(parser, bytes_slice(&text), 10007, &body), cases[i].error);
        if (cases[i].error == S3_OK && cases[i].kind == BODY_COMPLETE_MULTIPART)
            assert_text(body->complete.parts[9999].etag, "0123456789abcdef0123456789abcdef");
    }
}

static void sizes_are_limited(void **state)
{
    (void)state;
    AUTO_VALUE(bytes) body_text = {.max = 3 << 20};
    append_repeated(&body_text, "<Delete><!--", " padding", (2 << 20) / 8, "--></Delete>");
    AUTO(body_parser) parser = body_parser_new(BODY_DELETE, NULL);
    assert_int_equal(body_parser_feed(parser, bytes_slice(&body_text)),
                     S3_MAX_MESSAGE_LENGTH_EXCEEDED);
    assert_int_equal(body_parser_feed(parser, SLICE_LITERAL("x")), S3_MAX_MESSAGE_LENGTH_EXCEEDED);

    AUTO_VALUE(bytes) key = {.max = 1 << 16};
    append_repeated(&key, "<Delete><Object><Key>", "k", BODY_TEXT_BYTES_MAX,
                    "</Key></Object></Delete>");
    assert_int_equal(parse_error(BODY_DELETE, bytes_slice(&key)), S3_OK);
    bytes_clear(&key);
    append_repeated(&key, "<Delete><Object><Key>", "k", BODY_TEXT_BYTES_MAX + 1,
                    "</Key></Object></Delete>");
    assert_int_equal(parse_error(BODY_DELETE, bytes_slice(&key)), S3_MALFORMED_XML);

    /* Attributes are compared with each other by libxml2, so a tag must be short. */
    AUTO_VALUE(bytes) tag = {.max = 1 << 20};
    append_repeated(&tag, "<Delete><Object a0=\">\"", " a=\">\"", 300,
                    "><Key>k</Key></Object></Delete>");
    assert_int_equal(parse_error(BODY_DELETE, bytes_slice(&tag)), S3_MALFORMED_XML);
}

static void cors_rules_are_a_flat_list(void **state)
{
    (void)state;
    static const char text[] =
        "<CORSConfiguration" NS "><CORSRule><ID> one </ID><AllowedMethod>GET</AllowedMethod>\n"
        "<AllowedMethod>PUT</AllowedMethod><AllowedOrigin>http://a&amp;b</AllowedOrigin>"
        "<Unknown/><MaxAgeSeconds> 5 </MaxAgeSeconds></CORSRule>"
        "<CORSRule><ExposeHeader>ETag</ExposeHeader><AllowedHeader/></CORSRule>"
        "</CORSConfiguration>";
    static const struct {
        enum cors_field_kind kind;
        const char *text;
    } expected[] = {
        {CORS_RULE, ""},
        {CORS_ID, "one"},
        {CORS_ALLOWED_METHOD, "GET"},
        {CORS_ALLOWED_METHOD, "PUT"},
        {CORS_ALLOWED_ORIGIN, "http://a&b"},
        {CORS_MAX_AGE, "5"},
        {CORS_RULE, ""},
        {CORS_EXPOSE_HEADER, "ETag"},
        {CORS_ALLOWED_HEADER, ""},
    };
    AUTO(body_parser) parser = body_parser_new(BODY_CORS, NULL);
    const struct body *body;
    assert_int_equal(parse(parser, slice_of_text(text), 7, &body), S3_OK);
    assert_int_equal(body->cors.field_count, sizeof expected / sizeof expected[0]);
    for (uint32_t i = 0; i < body->cors.field_count; i++) {
        assert_int_equal(body->cors.fields[i].kind, expected[i].kind);
        assert_text(body->cors.fields[i].text, expected[i].text);
    }
}

int main(void)
{
    body_library_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delete_names_keys_versions_and_conditions),
        cmocka_unit_test(a_complete_names_parts_in_order),
        cmocka_unit_test(parts_out_of_order_are_told),
        cmocka_unit_test(a_bucket_configuration_may_be_empty),
        cmocka_unit_test(a_policy_that_gives_only_the_owner_is_recognised),
        cmocka_unit_test(grants_keep_type_and_permission),
        cmocka_unit_test(malformed_bodies_are_refused),
        cmocka_unit_test(malformed_policies_have_their_own_error),
        cmocka_unit_test(bad_part_values_are_invalid_arguments),
        cmocka_unit_test(counts_are_limited),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(cors_rules_are_a_flat_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
