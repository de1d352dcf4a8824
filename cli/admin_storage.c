/* See admin_storage.h. */
#include "admin_storage.h"

#include "base/text.h"
#include "gateway/exchange.h"
#include <jansson.h>

enum { CALL_TIMEOUT_S = 10, ANSWER_BYTES_MAX = 256 << 10 };

static const char READS_ONLY[] =
    "the metadata can only be read: too few drives are there; see shale meta recover";

typedef void route_fn(struct io *io, struct storage *storage, struct exchange *exchange);

/* --- answers --- */

static int append_json(const char *text, size_t bytes, void *argument)
{
    bytes_append(argument, slice_of(text, bytes));
    return 0;
}

/* Takes `body`. */
static void respond_json(struct io *io, struct exchange *exchange, unsigned status, json_t *body)
{
    AUTO_VALUE(bytes) text = {.max = ANSWER_BYTES_MAX};
    if (json_dump_callback(body, append_json, &text, JSON_INDENT(2)) != 0 || text.overflow)
        status = 500;
    json_decref(body);
    exchange_header_text(exchange, "Content-Type", "application/json");
    exchange_header_text(exchange, "Cache-Control", "no-store");
    /* A client that left is not told. */
    (void)exchange_respond(io, exchange, status, bytes_slice(&text));
}

static void respond_error(struct io *io, struct exchange *exchange, unsigned status,
                          const char *message)
{
    respond_json(io, exchange, status, json_pack("{s:s}", "error", message));
}

/* A directory may have any bytes in its name; JSON has UTF-8. */
static json_t *text_of(const char *text)
{
    json_t *string = json_string(text);
    return string != NULL ? string : json_string("(not UTF-8)");
}

static json_t *number_of(uint64_t number)
{
    return json_integer((json_int_t)number);
}

/* --- drives --- */

static json_t *describe_drive(const struct drive_status *drive)
{
    char id[2 * sizeof drive->id.bytes + 1];
    text_hex(slice_of(drive->id.bytes, sizeof drive->id.bytes), id);
    return json_pack("{s:s, s:o, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:i}", "id", id,
                     "directory", text_of(drive->directory), "state",
                     drive_state_text(drive->state), "fresh", (int)drive->fresh, "slow",
                     (int)drive->slow, "total_bytes", number_of(drive->total_bytes), "free_bytes",
                     number_of(drive->free_bytes), "reserve_bytes", number_of(drive->reserve_bytes),
                     "live_bytes", number_of(drive->live_bytes), "records",
                     number_of(drive->record_count), "slots", (int)drive->slots);
}

static void list_drives(struct io *io, struct storage *storage, struct exchange *exchange)
{
    struct drive_status drives[STORAGE_DRIVES_MAX];
    uint32_t count = storage_drives(io, storage, drives, STORAGE_DRIVES_MAX);
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        (void)json_array_append_new(list, describe_drive(&drives[i]));
    respond_json(io, exchange, 200, json_pack("{s:o}", "drives", list));
}

/* The only parameter, id=32 hex digits. */
static bool parse_id(struct slice target, struct drive_id *out_id)
{
    size_t mark = slice_find(target, '?');
    if (mark >= target.bytes)
        return false;
    struct slice query = slice_skip(target, mark + 1);
    struct slice name = slice_first(query, 3);
    return slice_equal_text(name, "id=") &&
           text_parse_hex(slice_skip(query, 3), out_id->bytes, sizeof out_id->bytes) == OK;
}

static void set_drain(struct io *io, struct storage *storage, struct exchange *exchange,
                      bool drains)
{
    struct drive_id id;
    if (!parse_id(exchange->head.target, &id)) {
        respond_error(io, exchange, 400,
                      "give the drive as ?id= with the 32 digits of GET /drives");
        return;
    }
    uint64_t deadline_ns = io_set_deadline(io, io_now_ns(io) + CALL_TIMEOUT_S * IO_NS_PER_S);
    enum err err = storage_drain(io, storage, &id, drains);
    (void)io_set_deadline(io, deadline_ns);
    if (err == OK)
        respond_json(io, exchange, 200, json_pack("{s:b}", "drains", (int)drains));
    else if (err == ERR_NOT_FOUND)
        respond_error(io, exchange, 404, "no drive of this node has that id");
    else if (err == ERR_INVALID)
        respond_error(io, exchange, 409, "the drive is lost; what it held is being rebuilt");
    else if (err == ERR_NOT_LEADER)
        respond_error(io, exchange, 503, READS_ONLY);
    else
        respond_error(io, exchange, 503, err_text(err));
}

static void drain(struct io *io, struct storage *storage, struct exchange *exchange)
{
    set_drain(io, storage, exchange, true);
}

static void undrain(struct io *io, struct storage *storage, struct exchange *exchange)
{
    set_drain(io, storage, exchange, false);
}

/* --- scrub --- */

static void show_scrub(struct io *io, struct storage *storage, struct exchange *exchange)
{
    struct scrub_status drives[STORAGE_DRIVES_MAX];
    uint32_t count = storage_scrub_state(io, storage, drives, STORAGE_DRIVES_MAX);
    json_t *list = json_array();
    bool running = false;
    for (uint32_t i = 0; i < count; i++) {
        running = running || drives[i].running;
        (void)json_array_append_new(
            list, json_pack("{s:o, s:b, s:{s:o, s:o}, s:o, s:o}", "directory",
                            text_of(drives[i].directory), "running", (int)drives[i].running,
                            "position", "segment", number_of(drives[i].segment), "offset",
                            number_of(drives[i].offset), "bytes", number_of(drives[i].bytes),
                            "errors", number_of(drives[i].errors)));
    }
    respond_json(io, exchange, 200,
                 json_pack("{s:b, s:o}", "running", (int)running, "drives", list));
}

static void begin_scrub(struct io *io, struct storage *storage, struct exchange *exchange)
{
    if (storage_scrub(io, storage) != OK) {
        respond_error(io, exchange, 503, READS_ONLY);
        return;
    }
    respond_json(io, exchange, 202, json_pack("{s:b}", "running", 1));
}

/* --- routes --- */

static const struct {
    const char *path;
    route_fn *get, *post;
} ROUTES[] = {
    {"/drives", list_drives, NULL},
    {"/drives/drain", NULL, drain},
    {"/drives/undrain", NULL, undrain},
    {"/scrub", show_scrub, begin_scrub},
};

bool admin_storage_serve(struct io *io, struct node *node, struct exchange *exchange)
{
    struct slice target = exchange->head.target;
    struct slice path = slice_first(target, slice_find(target, '?'));
    unsigned at = 0;
    while (at < sizeof ROUTES / sizeof ROUTES[0] && !slice_equal_text(path, ROUTES[at].path))
        at++;
    if (at == sizeof ROUTES / sizeof ROUTES[0])
        return false;
    bool reads = slice_equal_text(exchange->head.method, "GET") || exchange_is_head(exchange);
    bool posts = slice_equal_text(exchange->head.method, "POST");
    route_fn *route = reads ? ROUTES[at].get : posts ? ROUTES[at].post : NULL;
    if (route == NULL) {
        exchange_header_text(exchange, "Allow",
                             ROUTES[at].get == NULL    ? "POST"
                             : ROUTES[at].post == NULL ? "GET, HEAD"
                                                       : "GET, HEAD, POST");
        respond_error(io, exchange, 405, "not with this method");
    } else if (node == NULL) {
        respond_error(io, exchange, 503, "the node does not serve yet");
    } else {
        route(io, node_storage(node), exchange);
    }
    return true;
}
