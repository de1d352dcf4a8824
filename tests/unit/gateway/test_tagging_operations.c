/* Tags of objects and buckets, and rules for pages of other origins, over the real metadata. */
#include "service.h"

static void done(struct answer answer)
{
    answer_deinit(&answer);
}

static struct answer call(struct service *service, const char *method, const char *target,
                          const char *first, const char *second)
{
    const char *headers[] = {first, second, NULL};
    return service_call(service, method, target, first == NULL ? NULL : headers, slice_of(NULL, 0));
}

#define TAGS(inner) "<Tagging><TagSet>" inner "</TagSet></Tagging>"
#define TAG(key, value) "<Tag><Key>" key "</Key><Value>" value "</Value></Tag>"

static void expect_tags(struct service *service, const char *target, const char *keys,
                        const char *values)
{
    char text[2048];
    struct answer answer = service_expect(service, 200, "GET", target, "");
    assert_string_equal(answer_all(&answer, "Key", text), keys);
    assert_string_equal(answer_all(&answer, "Value", text), values);
    done(answer);
}

static void an_object_is_tagged_without_being_rewritten(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char text[2048];
    char modified[2048];
    done(service_put(service, "/bucket/key", 'a', 10));
    struct answer answer = service_expect(service, 200, "HEAD", "/bucket/key", "");
    answer_header(&answer, "Last-Modified", modified);
    assert_string_equal(answer_header(&answer, "x-amz-tagging-count", text), "");
    done(answer);
    expect_tags(service, "/bucket/key?tagging", "", "");

    done(service_expect(service, 200, "PUT", "/bucket/key?tagging",
                        TAGS(TAG("b", "2") TAG("a", "\xc3\xa9+1"))));
    expect_tags(service, "/bucket/key?tagging", "b a", "2 \xc3\xa9+1");
    answer = service_expect(service, 200, "GET", "/bucket/key", "");
    assert_string_equal(answer_header(&answer, "x-amz-tagging-count", text), "2");
    assert_string_equal(answer_header(&answer, "Last-Modified", text), modified);
    assert_string_equal(answer.body, "aaaaaaaaaa");
    done(answer);

    done(service_expect(service, 200, "PUT", "/bucket/key?tagging&versionId=null", TAGS("")));
    expect_tags(service, "/bucket/key?tagging", "", "");
    done(service_expect(service, 200, "PUT", "/bucket/key?tagging", TAGS(TAG("a", ""))));
    done(service_expect(service, 204, "DELETE", "/bucket/key?tagging", ""));
    done(service_expect(service, 204, "DELETE", "/bucket/key?tagging", ""));
    expect_tags(service, "/bucket/key?tagging", "", "");
}

static void tags_that_cannot_be_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *target, *body;
        unsigned status;
        const char *code;
    } cases[] = {
        {"/bucket/key?tagging", TAGS(TAG("a", "1") TAG("a", "2")), 400, "InvalidTag"},
        {"/bucket/key?tagging", TAGS(TAG("aws:a", "1")), 400, "InvalidTag"},
        {"/bucket/key?tagging", TAGS(TAG("", "1")), 400, "InvalidTag"},
        {"/bucket/key?tagging", "<Tagging/>", 400, "MalformedXML"},
        {"/bucket/key?tagging", "", 400, "MalformedXML"},
        {"/bucket/none?tagging", TAGS(""), 404, "NoSuchKey"},
        {"/none/key?tagging", TAGS(""), 404, "NoSuchBucket"},
        {"/bucket/key?tagging&versionId=other", TAGS(""), 404, "NoSuchVersion"},
        {"/bucket?tagging", TAGS(TAG("a", "1") TAG("a", "2")), 400, "InvalidTag"},
        {"/none?tagging", TAGS(""), 404, "NoSuchBucket"},
    };
    AUTO(service) service = service_new();
    done(service_put(service, "/bucket/key", 'a', 1));
    done(service_expect(service, 200, "PUT", "/bucket/key?tagging", TAGS(TAG("k", "v"))));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        service_refuses(service, cases[i].status, cases[i].code, "PUT", cases[i].target,
                        cases[i].body);
    service_refuses(service, 404, "NoSuchKey", "DELETE", "/bucket/none?tagging", "");
    expect_tags(service, "/bucket/key?tagging", "k", "v");
    service_refuses(service, 404, "NoSuchTagSet", "GET", "/bucket?tagging", "");
}

static void writes_bring_their_tags(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char id[2048];
    char target[4096];
    done(call(service, "PUT", "/bucket/key", "x-amz-tagging: a=1&b=%2B", NULL));
    expect_tags(service, "/bucket/key?tagging", "a b", "1 +");
    const char *const refused[] = {"x-amz-tagging: a=1&a=2", "x-amz-tagging: =1"};
    for (size_t i = 0; i < 2; i++) {
        struct answer answer = call(service, "PUT", "/bucket/key", refused[i], NULL);
        assert_int_equal(answer.status, 400);
        assert_string_equal(answer_element(&answer, "Code", id), "InvalidArgument");
        assert_string_equal(answer_element(&answer, "ArgumentName", id), "x-amz-tagging");
        done(answer);
    }

    static const struct {
        const char *directive, *keys;
    } copies[] = {
        {"x-amz-tagging: c=3", "a b"}, /* ignored, as S3 says of COPY */
        {"x-amz-tagging-directive: COPY", "a b"},
        {"x-amz-tagging-directive: REPLACE", ""},
    };
    for (size_t i = 0; i < sizeof copies / sizeof copies[0]; i++) {
        done(call(service, "PUT", "/bucket/copy", "x-amz-copy-source: bucket/key",
                  copies[i].directive));
        struct answer answer = service_expect(service, 200, "GET", "/bucket/copy?tagging", "");
        assert_string_equal(answer_all(&answer, "Key", id), copies[i].keys);
        done(answer);
    }
    const char *replace[] = {"x-amz-copy-source: bucket/key", "x-amz-tagging-directive: REPLACE",
                             "x-amz-tagging: c=3", NULL};
    done(service_call(service, "PUT", "/bucket/copy", replace, slice_of(NULL, 0)));
    expect_tags(service, "/bucket/copy?tagging", "c", "3");

    struct answer answer = call(service, "POST", "/bucket/big?uploads", "x-amz-tagging: m=1", NULL);
    answer_element(&answer, "UploadId", id);
    done(answer);
    snprintf(target, sizeof target, "/bucket/big?partNumber=1&uploadId=%s", id);
    char etag[2048];
    char body[4096];
    answer = service_put(service, target, 'p', 5);
    answer_header(&answer, "ETag", etag);
    done(answer);
    snprintf(target, sizeof target, "/bucket/big?uploadId=%s", id);
    snprintf(body, sizeof body,
             "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part>"
             "</CompleteMultipartUpload>",
             etag);
    done(service_expect(service, 200, "POST", target, body));
    expect_tags(service, "/bucket/big?tagging", "m", "1");
}

static void a_bucket_is_tagged_and_untagged(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    done(service_expect(service, 204, "PUT", "/bucket?tagging", TAGS(TAG("a", "1"))));
    expect_tags(service, "/bucket?tagging", "a", "1");
    done(service_expect(service, 204, "PUT", "/bucket?tagging", TAGS("")));
    service_refuses(service, 404, "NoSuchTagSet", "GET", "/bucket?tagging", "");
    done(service_expect(service, 204, "PUT", "/bucket?tagging", TAGS(TAG("b", "2"))));
    done(service_expect(service, 204, "DELETE", "/bucket?tagging", ""));
    done(service_expect(service, 204, "DELETE", "/bucket?tagging", ""));
    service_refuses(service, 404, "NoSuchTagSet", "GET", "/bucket?tagging", "");

    done(service_expect(
        service, 200, "PUT", "/tagged",
        "<CreateBucketConfiguration><Tags>" TAG("t", "9") "</Tags>"
                                                          "</CreateBucketConfiguration>"));
    expect_tags(service, "/tagged?tagging", "t", "9");
    done(service_expect(service, 204, "DELETE", "/tagged", ""));
    done(service_expect(service, 200, "PUT", "/tagged", ""));
    service_refuses(service, 404, "NoSuchTagSet", "GET", "/tagged?tagging", "");
    service_refuses(
        service, 400, "InvalidTag", "PUT", "/other",
        "<CreateBucketConfiguration><Tags>" TAG("!", "9") "</Tags>"
                                                          "</CreateBucketConfiguration>");
    done(service_expect(service, 404, "HEAD", "/other", ""));
}

#define RULES                                                                                      \
    "<CORSConfiguration><CORSRule><MaxAgeSeconds>30</MaxAgeSeconds>"                               \
    "<AllowedOrigin>http://*.one</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>"                \
    "<AllowedMethod>GET</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>"                     \
    "<ExposeHeader>ETag</ExposeHeader><ID>first</ID></CORSRule>"                                   \
    "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"      \
    "</CORSConfiguration>"

static void rules_are_kept_and_taken_away(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char text[2048];
    service_refuses(service, 404, "NoSuchCORSConfiguration", "GET", "/bucket?cors", "");
    service_refuses(service, 400, "MalformedXML", "PUT", "/bucket?cors", "<CORSConfiguration/>");
    service_refuses(service, 404, "NoSuchBucket", "PUT", "/none?cors", RULES);
    done(service_expect(service, 200, "PUT", "/bucket?cors", RULES));
    struct answer answer = service_expect(service, 200, "GET", "/bucket?cors", "");
    assert_string_equal(answer_all(&answer, "AllowedMethod", text), "PUT GET GET");
    assert_string_equal(answer_all(&answer, "AllowedOrigin", text), "http://*.one *");
    assert_string_equal(answer_all(&answer, "ID", text), "first");
    assert_string_equal(answer_all(&answer, "MaxAgeSeconds", text), "30");
    /* What was read may be written back. */
    done(service_expect(service, 200, "PUT", "/bucket?cors", answer.body));
    done(answer);
    done(service_expect(service, 204, "DELETE", "/bucket?cors", ""));
    done(service_expect(service, 204, "DELETE", "/bucket?cors", ""));
    service_refuses(service, 404, "NoSuchCORSConfiguration", "GET", "/bucket?cors", "");
}

static void answers_say_who_may_see_them(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target, *origin;
        unsigned status;
        const char *allowed, *credentials, *exposed, *max_age;
    } cases[] = {
        {"GET", "/bucket/key", "Origin: http://a.one", 200, "http://a.one", "true", "ETag", "30"},
        {"GET", "/bucket/none", "Origin: http://a.one", 404, "http://a.one", "true", "ETag", "30"},
        {"GET", "/bucket", "origin: http://two", 200, "*", "", "", ""},
        {"GET", "/bucket?policy", "origin: http://two", 404, "*", "", "", ""},
        {"HEAD", "/bucket/key", "Origin: http://a.one", 200, "", "", "", ""},
        {"DELETE", "/bucket/none", "Origin: http://a.one", 204, "", "", "", ""},
    };
    AUTO(service) service = service_new();
    char text[2048];
    done(service_put(service, "/bucket/key", 'a', 1));
    done(service_expect(service, 200, "PUT", "/bucket?cors", RULES));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer =
            call(service, cases[i].method, cases[i].target, cases[i].origin, NULL);
        assert_int_equal(answer.status, cases[i].status);
        assert_string_equal(answer_header(&answer, "Access-Control-Allow-Origin", text),
                            cases[i].allowed);
        assert_string_equal(answer_header(&answer, "Access-Control-Allow-Credentials", text),
                            cases[i].credentials);
        assert_string_equal(answer_header(&answer, "Access-Control-Expose-Headers", text),
                            cases[i].exposed);
        assert_string_equal(answer_header(&answer, "Access-Control-Max-Age", text),
                            cases[i].max_age);
        assert_string_not_equal(answer_header(&answer, "Vary", text), "");
        done(answer);
    }
    struct answer plain = call(service, "GET", "/bucket/key", NULL, NULL);
    assert_null(strcasestr(plain.headers, "access-control"));
    assert_null(strcasestr(plain.headers, "vary"));
    done(plain);
}

static void a_preflight_is_answered_or_told_why_not(void **state)
{
    (void)state;
    static const struct {
        const char *target, *origin, *method, *headers; /* whole lines, or NULL */
        unsigned status;
        const char *code;
        const char *message; /* the start of it */
        const char *methods, *allowed_headers;
    } cases[] = {
        {"/bucket/key", "Origin: http://a.one", "Access-Control-Request-Method: PUT",
         "Access-Control-Request-Headers: X-Amz-Date,x-amz-acl", 200, "", "", "PUT, GET",
         "x-amz-date, x-amz-acl"},
        {"/bucket", "Origin: http://b", "Access-Control-Request-Method: GET", NULL, 200, "", "",
         "GET", ""},
        {"/bucket/key?uploads", "Origin: http://a.one", "Access-Control-Request-Method: PUT", NULL,
         200, "", "", "PUT, GET", ""},
        {"/bucket/key", "Origin: http://a.one", "Access-Control-Request-Method: DELETE", NULL, 403,
         "AccessForbidden", "CORSResponse: This CORS request is not allowed.", "", ""},
        {"/bucket/key", "Origin: http://a.one", "Access-Control-Request-Method: PUT",
         "Access-Control-Request-Headers: authorization", 403, "AccessForbidden",
         "CORSResponse: This CORS", "", ""},
        {"/plain/key", "Origin: http://a.one", "Access-Control-Request-Method: PUT", NULL, 403,
         "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.", "", ""},
        {"/none/key", "Origin: http://a.one", "Access-Control-Request-Method: PUT", NULL, 403,
         "AccessForbidden", "CORSResponse: Bucket not found", "", ""},
        {"/", "Origin: http://a.one", "Access-Control-Request-Method: GET", NULL, 403,
         "AccessForbidden", "CORSResponse: Bucket not found", "", ""},
        {"/bucket/key", NULL, NULL, NULL, 400, "BadRequest", "Insufficient information.", "", ""},
        {"/bucket/key", "Origin: http://a.one", NULL, NULL, 400, "BadRequest",
         "Invalid Access-Control-Request-Method: null", "", ""},
        {"/plain/key", "Origin: http://a.one", "Access-Control-Request-Method: PATCH", NULL, 400,
         "BadRequest", "Invalid Access-Control-Request-Method: PATCH", "", ""},
        {"/bucket/key", "Origin: http://a.one", "Access-Control-Request-Method: PUT",
         "Access-Control-Request-Headers: a b", 400, "BadRequest",
         "Access-Control-Request-Headers &quot;a b&quot; contains invalid character.", "", ""},
    };
    AUTO(service) service = service_new();
    char text[2048];
    done(service_expect(service, 200, "PUT", "/plain", ""));
    done(service_expect(service, 200, "PUT", "/bucket?cors", RULES));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *headers[] = {cases[i].origin, cases[i].method, cases[i].headers, NULL};
        struct answer answer =
            service_call(service, "OPTIONS", cases[i].target, headers, slice_of(NULL, 0));
        assert_int_equal(answer.status, cases[i].status);
        assert_string_equal(answer_element(&answer, "Code", text), cases[i].code);
        answer_element(&answer, "Message", text);
        assert_memory_equal(text, cases[i].message, strlen(cases[i].message));
        assert_string_equal(answer_header(&answer, "Access-Control-Allow-Methods", text),
                            cases[i].methods);
        assert_string_equal(answer_header(&answer, "Access-Control-Allow-Headers", text),
                            cases[i].allowed_headers);
        done(answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_is_tagged_without_being_rewritten),
        cmocka_unit_test(tags_that_cannot_be_change_nothing),
        cmocka_unit_test(writes_bring_their_tags),
        cmocka_unit_test(a_bucket_is_tagged_and_untagged),
        cmocka_unit_test(rules_are_kept_and_taken_away),
        cmocka_unit_test(answers_say_who_may_see_them),
        cmocka_unit_test(a_preflight_is_answered_or_told_why_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
