/* A gateway over the real state machine of the metadata, applied at once on a lane of the
 * simulator, and over blocks kept in plain memory: for tests of operations that lean on what the
 * metadata does. */
#pragma once
#include "gateway/exchange_memory.h"
#include "gateway/gateway.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>

#include <cmocka.h>

struct service;

/* With a bucket called "bucket". */
struct service *service_new(void);
/* Checks that nothing leaked: body memory, guards, running requests. */
void service_free(struct service *service);
DEFINE_AUTO(service, service_free)

struct answer {
    unsigned status;
    char *body;    /* with a NUL behind it */
    char *headers; /* "name: value\n" ... */
    size_t body_bytes;
};
void answer_deinit(struct answer *answer);

/* A signed request. `headers` are "name: value" texts, ended by NULL; may be NULL. */
struct answer service_call(struct service *service, const char *method, const char *target,
                           const char *const *headers, struct slice body);
/* The same without headers; asserts the status. */
struct answer service_expect(struct service *service, unsigned status, const char *method,
                             const char *target, const char *body);
/* PUT of `bytes` times the character `fill`. */
struct answer service_put(struct service *service, const char *target, char fill, size_t bytes);

/* Content of the first <element> at or behind *from, which moves behind it; "" when there is
 * none. */
const char *answer_next(const struct answer *answer, const char *element, size_t *from,
                        char out[2048]);
/* Content of the first <element>. */
const char *answer_element(const struct answer *answer, const char *element, char out[2048]);
/* Value of a header, "" when absent. */
const char *answer_header(const struct answer *answer, const char *name, char out[2048]);
/* The contents of all <element>s, joined by a space. */
const char *answer_all(const struct answer *answer, const char *element, char out[2048]);
/* Asserts status and <Code>. */
void service_refuses(struct service *service, unsigned status, const char *code, const char *method,
                     const char *target, const char *body);
