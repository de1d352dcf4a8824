/* Context switch in assembly for x86-64 and aarch64, by ucontext elsewhere. */
#include "fiber.h"
#include "runtime/io.h"
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __has_feature
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define FIBER_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define FIBER_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif

enum { GUARD_BYTES = 4096 };
static_assert(FIBER_STACK_BYTES % 4096 == 0);

void *fiber_stack_new(void)
{
    char *memory = mmap(NULL, FIBER_STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) { /* out of mappings */
        (void)munmap(memory, FIBER_STACK_BYTES + GUARD_BYTES);
        return NULL;
    }
    return memory + GUARD_BYTES;
}

void fiber_stack_free(void *stack)
{
    int result = munmap((char *)stack - GUARD_BYTES, FIBER_STACK_BYTES + GUARD_BYTES);
    assert(result == 0);
}

#ifdef SHALE_FIBER_UCONTEXT

/* makecontext passes int arguments only. */
static void ucontext_entry(unsigned high, unsigned low)
{
    struct fiber_context *context =
        (struct fiber_context *)(((uintptr_t)high << 16 << 16) | (uintptr_t)low);
    context->body(context->argument);
}

static void machine_start(struct fiber_context *context, void *stack, void (*body)(void *),
                          void *argument)
{
    int result = getcontext(&context->machine);
    assert(result == 0);
    context->machine.uc_stack.ss_sp = stack;
    context->machine.uc_stack.ss_size = FIBER_STACK_BYTES;
    context->machine.uc_link = NULL;
    context->body = body;
    context->argument = argument;
    uintptr_t address = (uintptr_t)context;
    makecontext(&context->machine, (void (*)(void))(void *)ucontext_entry, 2,
                (unsigned)(address >> 16 >> 16), (unsigned)address);
}

static void machine_switch(struct fiber_context *from, struct fiber_context *to)
{
    int result = swapcontext(&from->machine, &to->machine);
    assert(result == 0);
}

#else

/* Push what a callee must preserve, store the stack pointer in *save, go on at `to`. It ends with a
 * jump: a `ret` to another caller mispredicts. The labels are global because on aarch64 a local one
 * resolved to another function. */
void shale_fiber_switch(void **save, void *to);
/* First code of a new fiber: calls the body. Its return address is undefined, so unwinders stop. */
void shale_fiber_start(void);

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl shale_fiber_switch\n"
        ".hidden shale_fiber_switch\n"
        ".type shale_fiber_switch,@function\n"
        ".p2align 4\n"
        "shale_fiber_switch:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  subq $8, %rsp\n"
        "  stmxcsr (%rsp)\n"
        "  fnstcw 4(%rsp)\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  ldmxcsr (%rsp)\n"
        "  fldcw 4(%rsp)\n"
        "  addq $8, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  popq %rcx\n"
        "  jmpq *%rcx\n"
        ".size shale_fiber_switch,.-shale_fiber_switch\n"
        ".globl shale_fiber_start\n"
        ".hidden shale_fiber_start\n"
        ".type shale_fiber_start,@function\n"
        "shale_fiber_start:\n"
        ".cfi_startproc\n"
        ".cfi_undefined rip\n"
        "  movq %r12, %rdi\n"
        "  xorl %ebp, %ebp\n"
        "  call *%r13\n"
        "  ud2\n"
        ".cfi_endproc\n"
        ".size shale_fiber_start,.-shale_fiber_start\n");

/* Words of the first frame, lowest address first, as shale_fiber_switch pops them. */
enum { FRAME_CONTROL, FRAME_R15, FRAME_R14, FRAME_R13, FRAME_R12, FRAME_RBX, FRAME_RBP, FRAME_RIP };
enum { FRAME_WORDS = 10 }; /* two more keep 16-byte alignment and a zero return address */

static void *first_frame(void *top, void (*body)(void *), void *argument)
{
    uint64_t *frame = (uint64_t *)top - FRAME_WORDS;
    memset(frame, 0, FRAME_WORDS * sizeof *frame);
    uint32_t mxcsr = 0;
    uint16_t x87_control = 0;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87_control));
    frame[FRAME_CONTROL] = mxcsr | (uint64_t)x87_control << 32;
    frame[FRAME_R13] = (uint64_t)(uintptr_t)body;
    frame[FRAME_R12] = (uint64_t)(uintptr_t)argument;
    frame[FRAME_RIP] = (uint64_t)(uintptr_t)shale_fiber_start;
    return frame;
}
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl shale_fiber_switch\n"
        ".hidden shale_fiber_switch\n"
        ".type shale_fiber_switch,%function\n"
        ".p2align 4\n"
        "shale_fiber_switch:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp, #0]\n"
        "  stp x21, x22, [sp, #16]\n"
        "  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n"
        "  stp x27, x28, [sp, #64]\n"
        "  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n"
        "  stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n"
        "  str x9, [x0]\n"
        "  mov sp, x1\n"
        "  ldp x19, x20, [sp, #0]\n"
        "  ldp x21, x22, [sp, #16]\n"
        "  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n"
        "  ldp x27, x28, [sp, #64]\n"
        "  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n"
        "  ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n"
        "  ret\n"
        ".size shale_fiber_switch,.-shale_fiber_switch\n"
        ".globl shale_fiber_start\n"
        ".hidden shale_fiber_start\n"
        ".type shale_fiber_start,%function\n"
        "shale_fiber_start:\n"
        ".cfi_startproc\n"
        ".cfi_undefined x30\n"
        "  mov x0, x19\n"
        "  mov x29, #0\n"
        "  blr x20\n"
        "  brk #0\n"
        ".cfi_endproc\n"
        ".size shale_fiber_start,.-shale_fiber_start\n");

/* Words of the first frame, as shale_fiber_switch loads them. */
enum { FRAME_X19 = 0, FRAME_X20 = 1, FRAME_X30 = 11, FRAME_WORDS = 20 };

static void *first_frame(void *top, void (*body)(void *), void *argument)
{
    uint64_t *frame = (uint64_t *)top - FRAME_WORDS;
    memset(frame, 0, FRAME_WORDS * sizeof *frame);
    frame[FRAME_X19] = (uint64_t)(uintptr_t)argument;
    frame[FRAME_X20] = (uint64_t)(uintptr_t)body;
    frame[FRAME_X30] = (uint64_t)(uintptr_t)shale_fiber_start;
    return frame;
}
#endif

static void machine_start(struct fiber_context *context, void *stack, void (*body)(void *),
                          void *argument)
{
    context->stack_pointer = first_frame((char *)stack + FIBER_STACK_BYTES, body, argument);
}

static void machine_switch(struct fiber_context *from, struct fiber_context *to)
{
    shale_fiber_switch(&from->stack_pointer, to->stack_pointer);
}

#endif

void fiber_context_start(struct fiber_context *context, void *stack, void (*body)(void *),
                         void *argument)
{
    fiber_context_deinit(context);
    context->stack_low = stack;
    context->stack_bytes = FIBER_STACK_BYTES;
    context->fake_stack = NULL;
#ifdef FIBER_ASAN
    /* The last fiber on this stack never returned from its outermost frames. */
    __asan_unpoison_memory_region(stack, FIBER_STACK_BYTES);
#endif
#ifdef FIBER_TSAN
    context->sanitizer_fiber = __tsan_create_fiber(0);
#endif
    machine_start(context, stack, body, argument);
}

void fiber_context_arrive(struct fiber_context *context)
{
    assert(context->arrived_from != NULL);
#ifdef FIBER_ASAN
    struct fiber_context *from = context->arrived_from;
    __sanitizer_finish_switch_fiber(context->fake_stack, &from->stack_low, &from->stack_bytes);
#endif
}

void fiber_context_switch(struct fiber_context *from, struct fiber_context *to, bool ends)
{
    assert(from != to);
    to->arrived_from = from;
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->stack_low, to->stack_bytes);
#else
    (void)ends; /* only sanitizers care */
#endif
#ifdef FIBER_TSAN
    if (from->sanitizer_fiber == NULL)
        from->sanitizer_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->sanitizer_fiber, 0);
#endif
    machine_switch(from, to);
    fiber_context_arrive(from);
}

void fiber_context_deinit(struct fiber_context *context)
{
#ifdef FIBER_TSAN
    if (context->sanitizer_fiber != NULL)
        __tsan_destroy_fiber(context->sanitizer_fiber);
#endif
    context->sanitizer_fiber = NULL;
}
