/* State machine of the form parser. */
#include "s3/form.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>

/* PREAMBLE -> DELIMITER -> PADDING -> LINE_FEED -> HEADERS -> FIELD -> DELIMITER ...
 *                                                          -> FILE  -> DELIMITER ...
 *                                                          -> IGNORED -> DELIMITER ...
 *             DELIMITER -> DASH -> DONE */
enum state {
    STATE_PREAMBLE,
    STATE_DELIMITER, /* behind a delimiter */
    STATE_PADDING,   /* spaces between a delimiter and its CRLF */
    STATE_LINE_FEED,
    STATE_DASH, /* behind the first of two dashes */
    STATE_HEADERS,
    STATE_FIELD,
    STATE_FILE,
    STATE_IGNORED,
    STATE_DONE,
    STATE_FAILED,
};

struct field {
    struct slice name;  /* lower case */
    struct slice value; /* `${filename}` replaced once the file was found */
};

struct s3_form {
    enum state state;
    enum s3_error error; /* of STATE_FAILED */
    bool has_file;
    char delimiter[4 + S3_FORM_BOUNDARY_BYTES_MAX]; /* CRLF, two dashes, boundary */
    uint32_t delimiter_bytes;
    uint32_t matched;       /* bytes of the delimiter that the input ended with */
    uint32_t counted_bytes; /* consumed, without the content of the file */
    struct bytes text;      /* header lines, names and values as sent; never moves */
    size_t line_start;      /* in `text`: of the header line, or the value, being read */
    struct slice part_name; /* of the part whose headers were read, as sent; data NULL: none yet */
    struct slice file_name;
    struct field fields[S3_FORM_FIELDS_MAX];
    uint32_t field_count;
    struct bytes expanded;
};

static const char malformed[] =
    "The body of your POST request is not well-formed multipart/form-data.";

static enum s3_error broken(struct s3_failure *failure, const char *cause)
{
    log_debug("form: %s", cause);
    return S3_FAIL_SAY(failure, S3_MALFORMED_POST_REQUEST, "%s", malformed);
}

static uint8_t lower_of(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool starts_escape(struct slice text)
{
    return slice_starts_with(text, SLICE_LITERAL("\\\"")) ||
           slice_starts_with(text, SLICE_LITERAL("\\\\"));
}

/* Parameters of Content-Type and Content-Disposition: `; name=value`, the value a token or quoted.
 * Takes the next one off the front of `text`; false when there is none or it is malformed. The raw
 * inside of a quoted value is returned, see unquote. */
static bool take_parameter(struct slice *text, struct slice *out_name, struct slice *out_value,
                           bool *out_quoted)
{
    struct slice rest = slice_trim(*text);
    if (rest.bytes == 0 || rest.data[0] != ';')
        return false;
    rest = slice_skip(rest, 1);
    struct slice name = slice_first(rest, slice_find(rest, '='));
    rest = slice_trim(slice_skip(rest, name.bytes));
    if (rest.bytes == 0)
        return false;
    rest = slice_trim(slice_skip(rest, 1));
    bool quoted = rest.bytes > 0 && rest.data[0] == '"';
    size_t end = 0;
    if (quoted) {
        rest = slice_skip(rest, 1);
        while (end < rest.bytes && rest.data[end] != '"')
            end += starts_escape(slice_skip(rest, end)) ? 2 : 1;
        if (end >= rest.bytes)
            return false;
    } else {
        end = slice_find(rest, ';');
    }
    *out_name = slice_trim(name);
    *out_value = quoted ? slice_first(rest, end) : slice_trim(slice_first(rest, end));
    *out_quoted = quoted;
    *text = slice_skip(rest, end + quoted);
    return true;
}

/* RFC 2046 §5.1.1, and the other printable characters, which clients use too ("*****"). Without CR
 * the delimiter holds one only at its start, which is what lets it be matched without looking
 * back. */
static bool is_boundary(struct slice boundary)
{
    if (boundary.bytes == 0 || boundary.bytes > S3_FORM_BOUNDARY_BYTES_MAX ||
        boundary.data[boundary.bytes - 1] == ' ')
        return false;
    for (size_t i = 0; i < boundary.bytes; i++) {
        if (boundary.data[i] < ' ' || boundary.data[i] > '~')
            return false;
    }
    return true;
}

static enum s3_error find_boundary(struct slice content_type, struct s3_failure *failure,
                                   struct slice *out_boundary)
{
    struct slice type = slice_first(content_type, slice_find(content_type, ';'));
    if (!slice_equal_nocase(slice_trim(type), SLICE_LITERAL("multipart/form-data"))) {
        s3_failure_add(failure, "Condition",
                       SLICE_LITERAL("Bucket POST must be of the enclosure-type "
                                     "multipart/form-data"));
        return S3_FAIL(S3_PRECONDITION_FAILED, "no form");
    }
    struct slice rest = slice_skip(content_type, type.bytes);
    struct slice name;
    struct slice value;
    bool quoted;
    while (take_parameter(&rest, &name, &value, &quoted)) {
        if (!slice_equal_nocase(name, SLICE_LITERAL("boundary")))
            continue;
        if (!is_boundary(value))
            break;
        *out_boundary = value;
        return S3_OK;
    }
    return broken(failure, "no boundary");
}

enum s3_error s3_form_new(struct slice content_type, struct s3_failure *failure,
                          struct s3_form **out_form)
{
    struct slice boundary = {0};
    TRY(find_boundary(content_type, failure, &boundary));
    struct s3_form *form = mem_new(struct s3_form);
    memcpy(form->delimiter, "\r\n--", 4);
    memcpy(form->delimiter + 4, boundary.data, boundary.bytes);
    form->delimiter_bytes = 4 + (uint32_t)boundary.bytes;
    form->matched = 2; /* the first delimiter needs no CRLF before it */
    form->text.max = S3_FORM_BYTES_MAX;
    (void)bytes_extend(&form->text, S3_FORM_BYTES_MAX); /* all at once: slices point into it */
    bytes_clear(&form->text);
    form->expanded.max = S3_FORM_EXPANDED_BYTES_MAX;
    *out_form = form;
    return S3_OK;
}

void s3_form_free(struct s3_form *form)
{
    if (form == NULL)
        return;
    bytes_deinit(&form->text);
    bytes_deinit(&form->expanded);
    mem_free(form);
}

uint32_t s3_form_close_bytes(const struct s3_form *form)
{
    return form->delimiter_bytes + 2;
}

/* All bytes but the content of the file count. */
static enum s3_error count(struct s3_form *form, size_t bytes, struct s3_failure *failure)
{
    if (bytes <= S3_FORM_BYTES_MAX - form->counted_bytes) {
        form->counted_bytes += (uint32_t)bytes;
        return S3_OK;
    }
    if (form->has_file)
        return broken(failure, "too much behind the file");
    return S3_FAIL(S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED, "form above the limit");
}

static struct slice text_since(const struct s3_form *form, size_t start)
{
    return slice_of(form->text.data + start, form->text.bytes - start);
}

/* Undo the escapes that clients put into a quoted name, in place: a backslash protects a quote and
 * itself (curl, Go), %22 %0D %0A stand for the three bytes that a name cannot hold (HTML,
 * "Multipart form data"). Any other backslash is one: old browsers send whole paths of Windows. */
static struct slice unquote(struct s3_form *form, struct slice raw)
{
    static const struct {
        const char *text;
        char byte;
    } escapes[] = {{"\\\"", '"'}, {"\\\\", '\\'}, {"%22", '"'}, {"%0D", '\r'}, {"%0A", '\n'}};
    uint8_t *start = form->text.data + (raw.data - form->text.data);
    size_t bytes = 0;
    for (struct slice rest = raw; rest.bytes > 0;) {
        size_t taken = 1;
        uint8_t byte = rest.data[0];
        for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
            struct slice escape = slice_of_text(escapes[i].text);
            if (slice_starts_with(rest, escape)) {
                taken = escape.bytes;
                byte = (uint8_t)escapes[i].byte;
                break;
            }
        }
        start[bytes++] = byte;
        rest = slice_skip(rest, taken);
    }
    return slice_of(start, bytes);
}

/* S3 uses what follows the last slash or backslash of the path that a client may send. */
static struct slice base_name(struct slice path)
{
    for (size_t i = path.bytes; i > 0; i--) {
        if (path.data[i - 1] == '/' || path.data[i - 1] == '\\')
            return slice_skip(path, i);
    }
    return path;
}

static enum s3_error take_disposition(struct s3_form *form, struct slice value,
                                      struct s3_failure *failure)
{
    struct slice type = slice_first(value, slice_find(value, ';'));
    struct slice rest = slice_skip(value, type.bytes);
    struct slice name;
    struct slice raw;
    bool quoted;
    if (!slice_equal_nocase(slice_trim(type), SLICE_LITERAL("form-data")) ||
        form->part_name.data != NULL)
        return broken(failure, "disposition is not one form-data");
    while (take_parameter(&rest, &name, &raw, &quoted)) {
        struct slice plain = quoted ? unquote(form, raw) : raw;
        if (slice_equal_nocase(name, SLICE_LITERAL("name")))
            form->part_name = plain;
        if (slice_equal_nocase(name, SLICE_LITERAL("filename")) && !form->has_file)
            form->file_name = base_name(plain);
    }
    if (slice_trim(rest).bytes > 0 || form->part_name.bytes == 0)
        return broken(failure, "disposition without a name");
    return S3_OK;
}

/* Replace `${filename}`, in the name of a key above all; S3 expands "all variables within the form"
 * before it looks at the policy. What the signature covers stays as it is. */
static void expand_field(struct bytes *out, const struct field *field, struct slice file_name)
{
    static const char *const kept[] = {"policy", "signature", "x-amz-signature", "awsaccesskeyid",
                                       "x-amz-credential"};
    const struct slice variable = SLICE_LITERAL("${filename}");
    bool expands = true;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        expands = expands && !slice_equal_text(field->name, kept[i]);
    for (struct slice rest = field->value; rest.bytes > 0;) {
        struct slice plain = expands ? slice_first(rest, slice_find(rest, '$')) : rest;
        bytes_append(out, plain);
        rest = slice_skip(rest, plain.bytes);
        bool found = slice_starts_with(rest, variable);
        bytes_append(out, found ? file_name : slice_first(rest, 1));
        rest = slice_skip(rest, found ? variable.bytes : 1);
    }
}

static enum s3_error expand(struct s3_form *form)
{
    size_t starts[S3_FORM_FIELDS_MAX + 1];
    bytes_append_byte(&form->expanded, '\0'); /* so that an empty value is not at NULL */
    for (uint32_t i = 0; i < form->field_count; i++) {
        starts[i] = form->expanded.bytes;
        expand_field(&form->expanded, &form->fields[i], form->file_name);
    }
    if (form->expanded.overflow)
        return S3_FAIL(S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED, "expanded form above the limit");
    starts[form->field_count] = form->expanded.bytes;
    for (uint32_t i = 0; i < form->field_count; i++)
        form->fields[i].value =
            slice_of(form->expanded.data + starts[i], starts[i + 1] - starts[i]);
    return S3_OK;
}

/* The empty line behind a part's headers: its name says what the content is. */
static enum s3_error begin_part(struct s3_form *form, struct s3_failure *failure)
{
    struct slice name = form->part_name;
    form->part_name = slice_of(NULL, 0);
    form->line_start = form->text.bytes;
    if (name.data == NULL)
        return broken(failure, "part without a disposition");
    bool is_file = slice_equal_nocase(name, SLICE_LITERAL("file"));
    if (is_file && form->has_file)
        return S3_FAIL(S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST, "a second file");
    form->state = is_file ? STATE_FILE : form->has_file ? STATE_IGNORED : STATE_FIELD;
    if (is_file) {
        form->has_file = true;
        return expand(form);
    }
    if (form->has_file)
        return S3_OK;
    form->file_name = slice_of(NULL, 0);
    uint8_t *lower = form->text.data + (name.data - form->text.data);
    for (size_t i = 0; i < name.bytes; i++)
        lower[i] = lower_of(lower[i]);
    for (uint32_t i = 0; i < form->field_count; i++)
        if (slice_equal(form->fields[i].name, name))
            return s3_fail_argument(failure, "name", name, "A form field must not be repeated.");
    if (form->field_count == S3_FORM_FIELDS_MAX)
        return S3_FAIL(S3_MAX_POST_PRE_DATA_LENGTH_EXCEEDED, "too many fields");
    form->fields[form->field_count++].name = name;
    return S3_OK;
}

static enum s3_error take_header_byte(struct s3_form *form, uint8_t byte,
                                      struct s3_failure *failure)
{
    bytes_append_byte(&form->text, byte);
    if (byte != '\n')
        return S3_OK;
    struct slice line = text_since(form, form->line_start);
    form->line_start = form->text.bytes;
    if (line.bytes < 2 || line.data[line.bytes - 2] != '\r')
        return broken(failure, "header line does not end with CRLF");
    line = slice_first(line, line.bytes - 2);
    if (line.bytes == 0)
        return begin_part(form, failure);
    size_t colon = slice_find(line, ':');
    if (colon == line.bytes)
        return broken(failure, "header line without a colon");
    /* Content-Type and the like of a part mean nothing to S3. */
    if (!slice_equal_nocase(slice_trim(slice_first(line, colon)),
                            SLICE_LITERAL("content-disposition")))
        return S3_OK;
    return take_disposition(form, slice_trim(slice_skip(line, colon + 1)), failure);
}

/* What stands behind a delimiter, byte by byte. */
static enum s3_error take_delimiter_byte(struct s3_form *form, uint8_t byte,
                                         struct s3_failure *failure)
{
    switch (form->state) {
    case STATE_DELIMITER:
        if (byte == '-') {
            form->state = STATE_DASH;
            return S3_OK;
        }
        [[fallthrough]];
    case STATE_PADDING:
        if (byte != ' ' && byte != '\t' && byte != '\r')
            return broken(failure, "boundary is followed by something else");
        form->state = byte == '\r' ? STATE_LINE_FEED : STATE_PADDING;
        return S3_OK;
    case STATE_LINE_FEED:
        if (byte != '\n')
            return broken(failure, "boundary without a line end");
        form->state = STATE_HEADERS;
        form->line_start = form->text.bytes;
        return S3_OK;
    case STATE_DASH:
        if (byte != '-')
            return broken(failure, "boundary is followed by one dash");
        if (!form->has_file)
            return S3_FAIL(S3_INCORRECT_NUMBER_OF_FILES_IN_POST_REQUEST, "no file");
        form->state = STATE_DONE;
        return S3_OK;
    case STATE_PREAMBLE:
    case STATE_HEADERS:
    case STATE_FIELD:
    case STATE_FILE:
    case STATE_IGNORED:
    case STATE_DONE:
    case STATE_FAILED:
        break;
    }
    assert(false);
    return S3_INTERNAL_ERROR;
}

/* Take the next run of content off the front of `*input`: up to where a delimiter may begin, or
 * the bytes that looked like the beginning of one and were not. Empty when the input is used up or
 * the delimiter is complete (then matched == delimiter_bytes). */
static struct slice take_run(struct s3_form *form, struct slice *input)
{
    const struct slice delimiter = slice_of(form->delimiter, form->delimiter_bytes);
    if (form->matched == 0) {
        struct slice run = slice_first(*input, slice_find(*input, '\r'));
        if (run.bytes > 0) {
            *input = slice_skip(*input, run.bytes);
            return run;
        }
    }
    while (form->matched < delimiter.bytes && input->bytes > 0) {
        if (input->data[0] != delimiter.data[form->matched]) {
            struct slice run = slice_first(delimiter, form->matched);
            form->matched = 0;
            return run;
        }
        form->matched++;
        *input = slice_skip(*input, 1);
    }
    return slice_of(NULL, 0);
}

static void end_field(struct s3_form *form)
{
    form->fields[form->field_count - 1].value = text_since(form, form->line_start);
}

/* Content of the preamble or a part. `*out_content` is a run of the file, else empty. */
static enum s3_error take_content(struct s3_form *form, struct slice *input,
                                  struct slice *out_content, struct s3_failure *failure)
{
    size_t before = input->bytes;
    struct slice run = take_run(form, input);
    if (form->state == STATE_FILE)
        *out_content = run;
    else
        TRY(count(form, before - input->bytes, failure));
    if (form->state == STATE_FIELD)
        bytes_append(&form->text, run);
    if (form->matched < form->delimiter_bytes)
        return S3_OK;
    if (form->state == STATE_FIELD)
        end_field(form);
    form->matched = 0;
    form->state = STATE_DELIMITER;
    return S3_OK;
}

static bool is_in_content(const struct s3_form *form)
{
    return form->state == STATE_PREAMBLE || form->state == STATE_FIELD ||
           form->state == STATE_FILE || form->state == STATE_IGNORED;
}

static enum s3_error advance(struct s3_form *form, struct slice *input,
                             enum s3_form_event *out_event, struct slice *out_content,
                             struct s3_failure *failure)
{
    *out_content = slice_of(NULL, 0);
    while (input->bytes > 0 && form->state != STATE_DONE) {
        bool had_file = form->has_file;
        if (is_in_content(form)) {
            TRY(take_content(form, input, out_content, failure));
        } else {
            uint8_t byte = input->data[0];
            *input = slice_skip(*input, 1);
            TRY(count(form, 1, failure));
            TRY(form->state == STATE_HEADERS ? take_header_byte(form, byte, failure)
                                             : take_delimiter_byte(form, byte, failure));
        }
        if (out_content->bytes > 0 || form->has_file != had_file) {
            *out_event = out_content->bytes > 0 ? S3_FORM_CONTENT : S3_FORM_FILE;
            return S3_OK;
        }
    }
    *out_event = form->state == STATE_DONE ? S3_FORM_END : S3_FORM_MORE;
    return S3_OK;
}

/* An error is final. */
static enum s3_error remember(struct s3_form *form, enum s3_error error)
{
    if (error != S3_OK) {
        form->state = STATE_FAILED;
        form->error = error;
    }
    return error;
}

enum s3_error s3_form_next(struct s3_form *form, struct slice *input, enum s3_form_event *out_event,
                           struct slice *out_content, struct s3_failure *failure)
{
    if (form->state == STATE_FAILED)
        return form->error;
    return remember(form, advance(form, input, out_event, out_content, failure));
}

enum s3_error s3_form_finish(struct s3_form *form, struct s3_failure *failure)
{
    if (form->state == STATE_FAILED)
        return form->error;
    if (form->state != STATE_DONE)
        return remember(form, broken(failure, "ends before its closing boundary"));
    return S3_OK;
}

struct slice s3_form_field(const struct s3_form *form, const char *name)
{
    assert(form->has_file);
    for (uint32_t i = 0; i < form->field_count; i++) {
        if (slice_equal_text(form->fields[i].name, name))
            return form->fields[i].value;
    }
    return (struct slice){0};
}

uint32_t s3_form_field_count(const struct s3_form *form)
{
    assert(form->has_file);
    return form->field_count;
}

void s3_form_field_at(const struct s3_form *form, uint32_t index, struct slice *out_name,
                      struct slice *out_value)
{
    assert(index < form->field_count);
    *out_name = form->fields[index].name;
    *out_value = form->fields[index].value;
}
