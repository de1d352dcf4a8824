/* Buckets, ACLs and settings over the real metadata. */
#include "service.h"

static void done(struct answer answer)
{
    answer_deinit(&answer);
}

static void a_bucket_lives_from_create_to_delete(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char text[2048];
    struct answer answer = service_expect(service, 200, "PUT", "/fresh", "");
    assert_string_equal(answer_header(&answer, "Location", text), "/fresh");
    done(answer);
    service_refuses(service, 409, "BucketAlreadyOwnedByYou", "PUT", "/fresh", "");
    answer = service_expect(service, 200, "HEAD", "/fresh", "");
    assert_string_equal(answer_header(&answer, "x-amz-bucket-region", text), "us-east-1");
    done(answer);
    done(service_put(service, "/fresh/key", 'a', 1));
    service_refuses(service, 409, "BucketNotEmpty", "DELETE", "/fresh", "");
    done(service_expect(service, 204, "DELETE", "/fresh/key", ""));
    done(service_expect(service, 204, "DELETE", "/fresh", ""));
    service_refuses(service, 404, "NoSuchBucket", "DELETE", "/fresh", "");
    done(service_expect(service, 404, "HEAD", "/fresh", ""));
}

static void the_location_is_the_one_given(void **state)
{
    (void)state;
    static const struct {
        const char *bucket, *constraint, *location, *region;
    } cases[] = {
        {"/plain", "", "", "us-east-1"},
        {"/paris", "eu-west-3", "eu-west-3", "eu-west-3"},
        {"/old", "EU", "eu-west-1", "eu-west-1"},
        {"/first", "us-east-1", "", "us-east-1"},
    };
    AUTO(service) service = service_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[2048];
        char body[256];
        snprintf(body, sizeof body,
                 "<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint>"
                 "</CreateBucketConfiguration>",
                 cases[i].constraint);
        done(service_expect(service, 200, "PUT", cases[i].bucket, body));
        char target[64];
        snprintf(target, sizeof target, "%s?location", cases[i].bucket);
        struct answer answer = service_expect(service, 200, "GET", target, "");
        snprintf(body, sizeof body, ">%s</LocationConstraint>", cases[i].location);
        assert_non_null(strstr(answer.body, body));
        done(answer);
        answer = service_expect(service, 200, "HEAD", cases[i].bucket, "");
        assert_string_equal(answer_header(&answer, "x-amz-bucket-region", text), cases[i].region);
        done(answer);
    }
}

static void create_refuses_what_it_cannot_do(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        unsigned status;
        const char *code;
    } cases[] = {
        {"x-amz-acl: public-read", 400, "InvalidBucketAclWithObjectOwnership"},
        {"x-amz-acl: nonsense", 400, "InvalidArgument"},
        {"x-amz-bucket-object-lock-enabled: true", 501, "NotImplemented"},
        {"x-amz-object-ownership: ObjectWriter", 501, "NotImplemented"},
        {"x-amz-object-ownership: Nobody", 400, "InvalidArgument"},
        {"x-amz-acl: private", 200, ""},
        {"x-amz-object-ownership: BucketOwnerEnforced", 409, "BucketAlreadyOwnedByYou"},
    };
    AUTO(service) service = service_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[2048];
        const char *headers[] = {cases[i].header, NULL};
        struct answer answer = service_call(service, "PUT", "/made", headers, slice_of(NULL, 0));
        assert_string_equal(answer_element(&answer, "Code", text), cases[i].code);
        assert_int_equal(answer.status, cases[i].status);
        done(answer);
    }
    service_refuses(service, 400, "MalformedXML", "PUT", "/other", "<CreateBucketConfiguration>");
}

static void buckets_are_listed_page_by_page(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char text[2048];
    char target[4096];
    static const char *const names[] = {"/alpha", "/beta", "/beta-2", "/gamma"};
    for (size_t i = 0; i < 4; i++)
        done(service_expect(service, 200, "PUT", names[i], ""));
    struct answer answer = service_expect(service, 200, "GET", "/", "");
    assert_string_equal(answer_all(&answer, "Name", text), "alpha beta beta-2 bucket gamma");
    assert_string_equal(answer_element(&answer, "ID", text), "AKTEST");
    assert_string_equal(answer_all(&answer, "BucketRegion", text), "");
    assert_string_equal(answer_all(&answer, "ContinuationToken", text), "");
    done(answer);

    answer = service_expect(service, 200, "GET", "/?max-buckets=2&prefix=b", "");
    assert_string_equal(answer_all(&answer, "Name", text), "beta beta-2");
    assert_string_equal(answer_all(&answer, "BucketRegion", text), "us-east-1 us-east-1");
    answer_element(&answer, "ContinuationToken", text);
    snprintf(target, sizeof target, "/?max-buckets=2&prefix=b&continuation-token=%s", text);
    done(answer);
    assert_null(strchr(target, '+')); /* it would have to be encoded */
    answer = service_expect(service, 200, "GET", target, "");
    assert_string_equal(answer_all(&answer, "Name", text), "bucket");
    assert_string_equal(answer_all(&answer, "ContinuationToken", text), "");
    done(answer);

    service_refuses(service, 400, "InvalidArgument", "GET", "/?max-buckets=0", "");
    service_refuses(service, 400, "InvalidArgument", "GET", "/?max-buckets=10001", "");
    service_refuses(service, 400, "InvalidArgument", "GET", "/?continuation-token=zzz", "");
}

static void a_region_filters_over_pages(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char text[2048];
    for (int i = 0; i < 6; i++) {
        char target[32];
        snprintf(target, sizeof target, "/name-%d", i);
        done(service_expect(service, 200, "PUT", target,
                            i % 3 == 2 ? "<CreateBucketConfiguration><LocationConstraint>eu-west-3"
                                         "</LocationConstraint></CreateBucketConfiguration>"
                                       : ""));
    }
    struct answer answer =
        service_expect(service, 200, "GET", "/?bucket-region=eu-west-3&max-buckets=2", "");
    assert_string_equal(answer_all(&answer, "Name", text), "name-2 name-5");
    done(answer);
}

static void acls_say_what_holds(void **state)
{
    (void)state;
    AUTO(service) service = service_new();
    char text[2048];
    done(service_put(service, "/bucket/key", 'a', 1));
    static const char *const targets[] = {"/bucket?acl", "/bucket/key?acl"};
    for (size_t i = 0; i < 2; i++) {
        struct answer answer = service_expect(service, 200, "GET", targets[i], "");
        assert_string_equal(answer_all(&answer, "ID", text), "AKTEST AKTEST");
        assert_string_equal(answer_all(&answer, "Permission", text), "FULL_CONTROL");
        /* What was read may be written back. */
        done(service_expect(service, 200, "PUT", targets[i], answer.body));
        done(answer);
        const char *canned[] = {"x-amz-acl: bucket-owner-full-control", NULL};
        answer = service_call(service, "PUT", targets[i], canned, slice_of(NULL, 0));
        assert_int_equal(answer.status, 200);
        done(answer);
        const char *public_read[] = {"x-amz-acl: public-read", NULL};
        answer = service_call(service, "PUT", targets[i], public_read, slice_of(NULL, 0));
        assert_string_equal(answer_element(&answer, "Code", text), "AccessControlListNotSupported");
        done(answer);
        service_refuses(service, 400, "MissingSecurityHeader", "PUT", targets[i], "");
        service_refuses(service, 400, "MalformedACLError", "PUT", targets[i], "<AccessControl");
    }
    service_refuses(service, 404, "NoSuchKey", "GET", "/bucket/missing?acl", "");
    service_refuses(service, 404, "NoSuchBucket", "GET", "/missing?acl", "");
}

static void settings_that_nobody_made_answer_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        unsigned status;
        const char *found; /* code or document */
    } cases[] = {
        {"/bucket?versioning", 200, "<VersioningConfiguration xmlns="},
        {"/bucket?notification", 200, "<NotificationConfiguration xmlns="},
        {"/bucket?logging", 200, "<BucketLoggingStatus xmlns="},
        {"/bucket?accelerate", 200, "<AccelerateConfiguration xmlns="},
        {"/bucket?requestPayment", 200, "<Payer>BucketOwner</Payer>"},
        {"/bucket?ownershipControls", 200,
         "<ObjectOwnership>BucketOwnerEnforced</ObjectOwnership>"},
        {"/bucket?policy", 404, "<Code>NoSuchBucketPolicy</Code>"},
        {"/bucket?policyStatus", 404, "<Code>NoSuchBucketPolicy</Code>"},
        {"/bucket?lifecycle", 404, "<Code>NoSuchLifecycleConfiguration</Code>"},
        {"/bucket?encryption", 404, "<Code>ServerSideEncryptionConfigurationNotFoundError</Code>"},
        {"/bucket?cors", 404, "<Code>NoSuchCORSConfiguration</Code>"},
        {"/bucket?tagging", 404, "<Code>NoSuchTagSet</Code>"},
        {"/bucket?website", 404, "<Code>NoSuchWebsiteConfiguration</Code>"},
        {"/bucket?replication", 404, "<Code>ReplicationConfigurationNotFoundError</Code>"},
        {"/bucket?publicAccessBlock", 404, "<Code>NoSuchPublicAccessBlockConfiguration</Code>"},
        {"/bucket?object-lock", 404, "<Code>ObjectLockConfigurationNotFoundError</Code>"},
        {"/bucket/key?retention", 400, "<Code>InvalidRequest</Code>"},
        {"/bucket/key?legal-hold", 400, "<Code>InvalidRequest</Code>"},
        {"/bucket/missing?retention", 404, "<Code>NoSuchKey</Code>"},
        {"/bucket/key?tagging", 200, "<TagSet></TagSet>"},
        {"/bucket/missing?tagging", 404, "<Code>NoSuchKey</Code>"},
        {"/missing?policy", 404, "<Code>NoSuchBucket</Code>"},
    };
    AUTO(service) service = service_new();
    done(service_put(service, "/bucket/key", 'a', 1));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer = service_expect(service, cases[i].status, "GET", cases[i].target, "");
        assert_non_null(strstr(answer.body, cases[i].found));
        done(answer);
    }
    service_refuses(service, 501, "NotImplemented", "PUT", "/bucket?policy", "{}");
    service_refuses(service, 501, "NotImplemented", "PUT", "/bucket?versioning", "<V/>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_lives_from_create_to_delete),
        cmocka_unit_test(the_location_is_the_one_given),
        cmocka_unit_test(create_refuses_what_it_cannot_do),
        cmocka_unit_test(buckets_are_listed_page_by_page),
        cmocka_unit_test(a_region_filters_over_pages),
        cmocka_unit_test(acls_say_what_holds),
        cmocka_unit_test(settings_that_nobody_made_answer_as_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
