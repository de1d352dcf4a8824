/* See credentials.h. */
#include "credentials.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <openssl/crypto.h>
#include <stdio.h>

enum {
    ACCESS_KEY_RANDOM_CHARACTERS = 20,
    SECRET_KEY_RANDOM_CHARACTERS = 40,
    ACCESS_KEY_CHARACTERS_MIN = 3,
    SECRET_KEY_CHARACTERS_MIN = 8,
    CREDENTIAL_CHARACTERS_MAX = 128,
};

static bool is_word(const char *text, size_t characters_min)
{
    size_t count = strlen(text);
    if (count < characters_min || count > CREDENTIAL_CHARACTERS_MAX)
        return false;
    for (size_t i = 0; i < count; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

enum err credentials_check(const char *user, const char *password)
{
    if ((user == NULL) != (password == NULL)) {
        log_error("credentials: give both SHALE_ROOT_USER and SHALE_ROOT_PASSWORD or neither");
        return ERR_INVALID;
    }
    if (user == NULL)
        return OK;
    if (!is_word(user, ACCESS_KEY_CHARACTERS_MIN) || strpbrk(user, "/,=") != NULL) {
        log_error("credentials: SHALE_ROOT_USER must be 3 to 128 printable characters without "
                  "spaces, '/', ',' and '='");
        return ERR_INVALID;
    }
    if (!is_word(password, SECRET_KEY_CHARACTERS_MIN)) {
        log_error("credentials: SHALE_ROOT_PASSWORD must be 8 to 128 printable characters without "
                  "spaces");
        return ERR_INVALID;
    }
    return OK;
}

/* `count` characters of a 32-letter alphabet: 5 random bits each, no bias. */
static void random_word(struct io *io, char *out, size_t count)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t random[SECRET_KEY_RANDOM_CHARACTERS];
    assert(count <= sizeof random);
    io_random(io, random, count);
    for (size_t i = 0; i < count; i++)
        out[i] = alphabet[random[i] & 31];
    out[count] = '\0';
    OPENSSL_cleanse(random, sizeof random);
}

/* The file holds exactly these bytes. */
static enum err copy_is_right(struct io *io, const char *path, const struct buf *wanted,
                              size_t bytes, bool *out_right)
{
    AUTO(file) file = NULL;
    AUTO(buf) found = buf_new(BUF_ALIGN_BYTES);
    size_t count = 0;
    *out_right = false;
    enum err err = io_open(io, path, 0, &file);
    if (err == ERR_NOT_FOUND)
        return OK;
    TRY(err);
    TRY(io_read(io, file, found, 0, BUF_ALIGN_BYTES, 0, &count));
    *out_right = count == bytes && memcmp(found->data, wanted->data, bytes) == 0;
    OPENSSL_cleanse(found->data, BUF_ALIGN_BYTES);
    return OK;
}

/* Under another name first: a crash must not leave a file that says nothing. */
static enum err replace_copy(struct io *io, const char *directory, const char *path,
                             struct buf *wanted, size_t bytes)
{
    AUTO_STRING path_new = mem_format("%s.new", path);
    AUTO(file) file = NULL;
    TRY(io_open(io, path_new, FILE_WRITE | FILE_CREATE, &file));
    TRY(io_truncate(io, file, 0));
    struct io_part part = {.buf = wanted, .bytes = bytes};
    TRY(io_write(io, file, &part, 1, 0, 0));
    TRY(io_sync(io, file));
    TRY(io_rename(io, path_new, path));
    return io_sync_directory(io, directory);
}

static enum err write_copy(struct io *io, const char *directory, const char *path,
                           const struct identity *identity)
{
    AUTO(buf) buf = buf_new(BUF_ALIGN_BYTES);
    int bytes = snprintf((char *)buf->data, buf->capacity, "access_key=%s\nsecret_key=%s\n",
                         identity->access_key, identity->secret_key);
    assert(bytes > 0 && (size_t)bytes < buf->capacity);
    bool right = false;
    enum err err = copy_is_right(io, path, buf, (size_t)bytes, &right);
    if (err == OK && !right)
        err = replace_copy(io, directory, path, buf, (size_t)bytes);
    OPENSSL_cleanse(buf->data, (size_t)bytes);
    return err;
}

enum err credentials_establish(struct io *io, struct meta_client *meta, const char *directory,
                               const char *user, const char *password,
                               struct identity *out_identity, char *out_path)
{
    enum err err = meta_identity_root(io, meta, out_identity);
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    bool found = err == OK;
    if (user != NULL) {
        struct identity given = {.root = true};
        snprintf(given.access_key, sizeof given.access_key, "%s", user);
        snprintf(given.secret_key, sizeof given.secret_key, "%s", password);
        bool same = found && strcmp(given.access_key, out_identity->access_key) == 0 &&
                    strcmp(given.secret_key, out_identity->secret_key) == 0;
        if (!same)
            TRY(meta_identity_put(io, meta, &given));
        *out_identity = given;
        out_path[0] = '\0';
        return OK;
    }
    if (!found) {
        *out_identity = (struct identity){.root = true};
        random_word(io, out_identity->access_key, ACCESS_KEY_RANDOM_CHARACTERS);
        random_word(io, out_identity->secret_key, SECRET_KEY_RANDOM_CHARACTERS);
        TRY(meta_identity_put(io, meta, out_identity));
    }
    int length = snprintf(out_path, CREDENTIALS_PATH_BYTES_MAX, "%s/root-credentials", directory);
    if (length >= CREDENTIALS_PATH_BYTES_MAX)
        return FAIL(ERR_INVALID, "path too long directory=%s", directory);
    return write_copy(io, directory, out_path, out_identity);
}
