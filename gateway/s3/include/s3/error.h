/* The errors of the S3 API, and the words that raise them.
 *
 * The idiom of base/err.h on its own enum: a function that can refuse a request returns `enum
 * s3_error`, S3_FAIL raises, TRY passes on; mixing with `enum err` does not compile. Codes,
 * statuses and texts: S3 API Reference, "Error Responses", "List of error codes". What an answer
 * needs beyond its code (a message of its own, elements such as ArgumentName or StringToSign)
 * travels in `struct s3_failure`. */
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/own.h"
#include "base/slice.h"
#include <stdint.h>

/* X(name, code, HTTP status, default message) */
#define S3_ERROR_LIST(X)                                                                           \
    X(S3_ACCESS_CONTROL_LIST_NOT_SUPPORTED, "AccessControlListNotSupported", 400,                  \
      "The bucket does not allow ACLs.")                                                           \
    X(S3_ACCESS_DENIED, "AccessDenied", 403, "Access Denied.")                                     \
    X(S3_ACCESS_FORBIDDEN, "AccessForbidden", 403,                                                 \
      "CORSResponse: This CORS request is not allowed.")                                           \
    X(S3_AUTHORIZATION_HEADER_MALFORMED, "AuthorizationHeaderMalformed", 400,                      \
      "The authorization header that you provided is not valid.")                                  \
    X(S3_AUTHORIZATION_QUERY_PARAMETERS_ERROR, "AuthorizationQueryParametersError", 400,           \
      "Query-string authentication requires the X-Amz-Algorithm, X-Amz-Credential, "               \
      "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")           \
    X(S3_BAD_DIGEST, "BadDigest", 400,                                                             \
      "The Content-MD5 or checksum value that you specified did not match what we received.")      \
    X(S3_BAD_REQUEST, "BadRequest", 400, "Bad Request")                                            \
    X(S3_BUCKET_ALREADY_EXISTS, "BucketAlreadyExists", 409,                                        \
      "The requested bucket name is not available. The bucket namespace is shared by all users "   \
      "of the system. Select a different name and try again.")                                     \
    X(S3_BUCKET_ALREADY_OWNED_BY_YOU, "BucketAlreadyOwnedByYou", 409,                              \
      "Your previous request to create the named bucket succeeded and you already own it.")        \
    X(S3_BUCKET_NOT_EMPTY, "BucketNotEmpty", 409, "The bucket you tried to delete is not empty.")  \
    X(S3_CONDITIONAL_REQUEST_CONFLICT, "ConditionalRequestConflict", 409,                          \
      "A conflicting operation occurred during the request. Try again.")                           \
    X(S3_CROSS_LOCATION_LOGGING_PROHIBITED, "CrossLocationLoggingProhibited", 403,                 \
      "Cross-Region logging is not allowed.")                                                      \
    X(S3_ENTITY_TOO_LARGE, "EntityTooLarge", 400,                                                  \
      "Your proposed upload exceeds the maximum allowed object size.")                             \
    X(S3_ENTITY_TOO_SMALL, "EntityTooSmall", 400,                                                  \
      "Your proposed upload is smaller than the minimum allowed size")                             \
    X(S3_EXPIRED_TOKEN, "ExpiredToken", 400, "The provided token has expired.")                    \
    X(S3_ILLEGAL_LOCATION_CONSTRAINT, "IllegalLocationConstraintException", 400,                   \
      "The location constraint is incompatible with this endpoint.")                               \
    X(S3_ILLEGAL_VERSIONING_CONFIGURATION, "IllegalVersioningConfigurationException", 400,         \
      "The Versioning configuration specified in the request is invalid.")                         \
    X(S3_INCOMPLETE_BODY, "IncompleteBody", 400,                                                   \
      "You did not provide the number of bytes specified by the Content-Length HTTP header")       \
    X(S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST, "IncorrectNumberOfFilesInPostRequest", 400,    \
      "POST requires exactly one file upload per request.")                                        \
    X(S3_INSUFFICIENT_STORAGE, "InsufficientStorage", 507,                                         \
      "There is not enough free space to store the object.")                                       \
    X(S3_INTERNAL_ERROR, "InternalError", 500,                                                     \
      "We encountered an internal error. Please try again.")                                       \
    X(S3_INVALID_ACCESS_KEY_ID, "InvalidAccessKeyId", 403,                                         \
      "The AWS Access Key Id you provided does not exist in our records.")                         \
    X(S3_INVALID_ARGUMENT, "InvalidArgument", 400, "Invalid Argument")                             \
    X(S3_INVALID_BUCKET_ACL_WITH_OBJECT_OWNERSHIP, "InvalidBucketAclWithObjectOwnership", 400,     \
      "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")            \
    X(S3_INVALID_BUCKET_NAME, "InvalidBucketName", 400, "The specified bucket is not valid.")      \
    X(S3_INVALID_BUCKET_STATE, "InvalidBucketState", 409,                                          \
      "The request is not valid for the current state of the bucket.")                             \
    X(S3_INVALID_CHUNK_SIZE, "InvalidChunkSizeError", 400,                                         \
      "Only the last chunk is allowed to have a size less than 8192 bytes")                        \
    X(S3_INVALID_DIGEST, "InvalidDigest", 400, "The Content-Md5 you specified is not valid.")      \
    X(S3_INVALID_ENCRYPTION_ALGORITHM, "InvalidEncryptionAlgorithmError", 400,                     \
      "The encryption request that you specified is not valid. The valid value is AES256.")        \
    X(S3_INVALID_OBJECT_STATE, "InvalidObjectState", 403,                                          \
      "The operation is not valid for the current state of the object.")                           \
    X(S3_INVALID_PART, "InvalidPart", 400,                                                         \
      "One or more of the specified parts could not be found.  The part may not have been "        \
      "uploaded, or the specified entity tag may not match the part's entity tag.")                \
    X(S3_INVALID_PART_NUMBER, "InvalidPartNumber", 416,                                            \
      "The requested partnumber is not satisfiable.")                                              \
    X(S3_INVALID_PART_ORDER, "InvalidPartOrder", 400,                                              \
      "The list of parts was not in ascending order. Parts must be ordered by part number.")       \
    X(S3_INVALID_POLICY_DOCUMENT, "InvalidPolicyDocument", 400,                                    \
      "The content of the form does not meet the conditions specified in the policy document.")    \
    X(S3_INVALID_RANGE, "InvalidRange", 416, "The requested range is not satisfiable")             \
    X(S3_INVALID_REDIRECT_LOCATION, "InvalidRedirectLocation", 400,                                \
      "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.")       \
    X(S3_INVALID_REQUEST, "InvalidRequest", 400, "Invalid Request")                                \
    X(S3_INVALID_SECURITY, "InvalidSecurity", 403,                                                 \
      "The provided security credentials are not valid.")                                          \
    X(S3_INVALID_STORAGE_CLASS, "InvalidStorageClass", 400,                                        \
      "The storage class you specified is not valid")                                              \
    X(S3_INVALID_TAG, "InvalidTag", 400, "The tag provided was not a valid tag.")                  \
    X(S3_INVALID_TARGET_BUCKET_FOR_LOGGING, "InvalidTargetBucketForLogging", 400,                  \
      "The target bucket for logging does not exist or is not yours.")                             \
    X(S3_INVALID_TOKEN, "InvalidToken", 400,                                                       \
      "The provided token is malformed or otherwise invalid.")                                     \
    X(S3_INVALID_URI, "InvalidURI", 400, "Couldn't parse the specified URI.")                      \
    X(S3_KEY_TOO_LONG, "KeyTooLongError", 400, "Your key is too long.")                            \
    X(S3_MALFORMED_ACL, "MalformedACLError", 400,                                                  \
      "The XML you provided was not well-formed or did not validate against our published "        \
      "schema.")                                                                                   \
    X(S3_MALFORMED_POLICY, "MalformedPolicy", 400, "The policy document is malformed.")            \
    X(S3_MALFORMED_POST_REQUEST, "MalformedPOSTRequest", 400,                                      \
      "The body of your POST request is not well-formed multipart/form-data.")                     \
    X(S3_MALFORMED_TRAILER, "MalformedTrailerError", 400,                                          \
      "The request contained trailing data that was not well-formed or did not conform to our "    \
      "published schema.")                                                                         \
    X(S3_MALFORMED_XML, "MalformedXML", 400,                                                       \
      "The XML you provided was not well-formed or did not validate against our published "        \
      "schema.")                                                                                   \
    X(S3_MAX_MESSAGE_LENGTH_EXCEEDED, "MaxMessageLengthExceeded", 400,                             \
      "Your request was too big.")                                                                 \
    X(S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED, "MaxPostPreDataLengthExceededError", 400,              \
      "Your POST request fields preceding the upload file were too large.")                        \
    X(S3_METADATA_TOO_LARGE, "MetadataTooLarge", 400,                                              \
      "Your metadata headers exceed the maximum allowed metadata size")                            \
    X(S3_METHOD_NOT_ALLOWED, "MethodNotAllowed", 405,                                              \
      "The specified method is not allowed against this resource.")                                \
    X(S3_MISSING_CONTENT_LENGTH, "MissingContentLength", 411,                                      \
      "You must provide the Content-Length HTTP header.")                                          \
    X(S3_MISSING_REQUEST_BODY, "MissingRequestBodyError", 400, "Request Body is empty")            \
    X(S3_MISSING_SECURITY_HEADER, "MissingSecurityHeader", 400,                                    \
      "Your request is missing a required header.")                                                \
    X(S3_NO_SUCH_BUCKET, "NoSuchBucket", 404, "The specified bucket does not exist.")              \
    X(S3_NO_SUCH_BUCKET_POLICY, "NoSuchBucketPolicy", 404, "The bucket policy does not exist.")    \
    X(S3_NO_SUCH_CONFIGURATION, "NoSuchConfiguration", 404,                                        \
      "The specified configuration does not exist.")                                               \
    X(S3_NO_SUCH_CORS_CONFIGURATION, "NoSuchCORSConfiguration", 404,                               \
      "The CORS configuration does not exist")                                                     \
    X(S3_NO_SUCH_KEY, "NoSuchKey", 404, "The specified key does not exist.")                       \
    X(S3_NO_SUCH_LIFECYCLE_CONFIGURATION, "NoSuchLifecycleConfiguration", 404,                     \
      "The lifecycle configuration does not exist")                                                \
    X(S3_NO_SUCH_OBJECT_LOCK_CONFIGURATION, "NoSuchObjectLockConfiguration", 404,                  \
      "The specified object does not have a ObjectLock configuration.")                            \
    X(S3_NO_SUCH_PUBLIC_ACCESS_BLOCK, "NoSuchPublicAccessBlockConfiguration", 404,                 \
      "The public access block configuration was not found")                                       \
    X(S3_NO_SUCH_TAG_SET, "NoSuchTagSet", 404, "The TagSet does not exist.")                       \
    X(S3_NO_SUCH_UPLOAD, "NoSuchUpload", 404,                                                      \
      "The specified multipart upload does not exist. The upload ID may be invalid, or the "       \
      "upload may have been aborted or completed.")                                                \
    X(S3_NO_SUCH_VERSION, "NoSuchVersion", 404, "The specified version does not exist.")           \
    X(S3_NO_SUCH_WEBSITE_CONFIGURATION, "NoSuchWebsiteConfiguration", 404,                         \
      "The specified bucket does not have a website configuration")                                \
    X(S3_NOT_IMPLEMENTED, "NotImplemented", 501,                                                   \
      "A header you provided implies functionality that is not implemented.")                      \
    X(S3_NOT_MODIFIED, "NotModified", 304, "Not Modified")                                         \
    X(S3_OBJECT_LOCK_CONFIGURATION_NOT_FOUND, "ObjectLockConfigurationNotFoundError", 404,         \
      "Object Lock configuration does not exist for this bucket.")                                 \
    X(S3_OPERATION_ABORTED, "OperationAborted", 409,                                               \
      "A conflicting conditional operation is currently in progress against this resource. "       \
      "Please try again.")                                                                         \
    X(S3_OWNERSHIP_CONTROLS_NOT_FOUND, "OwnershipControlsNotFoundError", 404,                      \
      "The bucket ownership controls were not found.")                                             \
    X(S3_PERMANENT_REDIRECT, "PermanentRedirect", 301,                                             \
      "The bucket you are attempting to access must be addressed using the specified endpoint.")   \
    X(S3_PRECONDITION_FAILED, "PreconditionFailed", 412,                                           \
      "At least one of the pre-conditions you specified did not hold.")                            \
    X(S3_REPLICATION_CONFIGURATION_NOT_FOUND, "ReplicationConfigurationNotFoundError", 404,        \
      "The replication configuration was not found")                                               \
    X(S3_REQUEST_HEADER_SECTION_TOO_LARGE, "RequestHeaderSectionTooLarge", 400,                    \
      "Your request header section exceeds the maximum allowed size.")                             \
    X(S3_REQUEST_TIMEOUT, "RequestTimeout", 400,                                                   \
      "Your socket connection to the server was not read from or written to within the timeout "   \
      "period.")                                                                                   \
    X(S3_REQUEST_TIME_TOO_SKEWED, "RequestTimeTooSkewed", 403,                                     \
      "The difference between the request time and the current time is too large.")                \
    X(S3_RESTORE_ALREADY_IN_PROGRESS, "RestoreAlreadyInProgress", 409,                             \
      "Object restore is already in progress.")                                                    \
    X(S3_SERVER_SIDE_ENCRYPTION_CONFIGURATION_NOT_FOUND,                                           \
      "ServerSideEncryptionConfigurationNotFoundError", 404,                                       \
      "The server side encryption configuration was not found")                                    \
    X(S3_SERVICE_UNAVAILABLE, "ServiceUnavailable", 503, "Service is unable to handle request.")   \
    X(S3_SIGNATURE_DOES_NOT_MATCH, "SignatureDoesNotMatch", 403,                                   \
      "The request signature we calculated does not match the signature you provided. Check "      \
      "your key and signing method.")                                                              \
    X(S3_SLOW_DOWN, "SlowDown", 503, "Please reduce your request rate.")                           \
    X(S3_TOO_MANY_BUCKETS, "TooManyBuckets", 400,                                                  \
      "You have attempted to create more buckets than allowed")                                    \
    X(S3_UNEXPECTED_CONTENT, "UnexpectedContent", 400, "This request does not support content.")   \
    X(S3_USER_KEY_MUST_BE_SPECIFIED, "UserKeyMustBeSpecified", 400,                                \
      "The bucket POST must contain the specified field name. If it is specified, check the "      \
      "order of the fields.")                                                                      \
    X(S3_X_AMZ_CONTENT_SHA256_MISMATCH, "XAmzContentSHA256Mismatch", 400,                          \
      "The provided 'x-amz-content-sha256' header does not match what was computed.")

enum [[nodiscard]] s3_error
{
    S3_OK = 0,
#define X(name, code, status, message) name,
    S3_ERROR_LIST(X)
#undef X
};

/* The S3 code, e.g. "NoSuchKey"; static. `error` is not S3_OK in these three. */
const char *s3_error_code(enum s3_error error);
uint16_t s3_error_status(enum s3_error error);
const char *s3_error_message(enum s3_error error);

enum {
    S3_FAILURE_MESSAGE_BYTES_MAX = 1024,
    S3_FAILURE_DETAILS_MAX = 6,
    S3_FAILURE_DETAIL_BYTES_MAX = 48 << 10, /* holds the canonical request of the largest head */
};

/* What the answer to a refused request says beyond its code. Zero-initialised is empty; one per
 * request, owned by whoever answers; the last S3_FAIL_SAY wins. */
struct s3_failure {
    struct bytes message; /* empty: the default message of the code */
    struct s3_failure_detail {
        const char *element; /* static XML element name: "ArgumentName", "StringToSign", ... */
        struct bytes text;   /* any bytes; the writer escapes */
    } details[S3_FAILURE_DETAILS_MAX];
    uint32_t detail_count;
};

void s3_failure_deinit(struct s3_failure *failure);
/* Add an element to the error body. A detail beyond the limit is dropped; text is cut at its
 * maximum. */
void s3_failure_add(struct s3_failure *failure, const char *element, struct slice text);
/* The message to send: the failure's own, else the code's default. `failure` may be NULL. */
struct slice s3_failure_message(const struct s3_failure *failure, enum s3_error error);

/* Raise: log the cause at debug level and return `code`. The client sees the code's default
 * message. */
#define S3_FAIL(code, ...) s3_error_raise((code), __FILE__, __LINE__, __VA_ARGS__)
/* Raise with a message for the client, which is also the cause in the log: no paths, no addresses,
 * no secrets. Forgets what an earlier S3_FAIL_SAY said. `failure` may be NULL. */
#define S3_FAIL_SAY(failure, code, ...)                                                            \
    s3_failure_raise((failure), (code), __FILE__, __LINE__, __VA_ARGS__)

enum s3_error s3_error_raise(enum s3_error error, const char *file, int line, const char *format,
                             ...) __attribute__((format(printf, 4, 5)));
enum s3_error s3_failure_raise(struct s3_failure *failure, enum s3_error error, const char *file,
                               int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* InvalidArgument with its ArgumentName and ArgumentValue elements. */
enum s3_error s3_fail_argument(struct s3_failure *failure, const char *name, struct slice value,
                               const char *message);
