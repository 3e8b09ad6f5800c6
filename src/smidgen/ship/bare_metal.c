/* Runs a shipped network on a core without an operating system, in an emulator: classifies IMAGES
   images of PIXELS bytes, and prints every score in hexadecimal and the ticks of a timer of the
   core. The first line holds the ticks of a million instructions. */
#include <stdint.h>

extern const uint8_t images[];

static void semihost(int operation, const void *argument) {
#if defined(__riscv)
    register int a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\n"
                     "srai x0, x0, 7\n.option pop" : "+r"(a0) : "r"(a1) : "memory");
#else
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
#endif
}

#if defined(__riscv)
static uint32_t ticks(void) {
    uint32_t count;
    __asm__ volatile("csrr %0, minstret" : "=r"(count));
    return count;
}
static void start_ticks(void) {}
static uint32_t since(uint32_t before) { return ticks() - before; }
#else
static uint32_t ticks(void) { return 0xffffff - *(volatile uint32_t *)0xe000e018; }
static void start_ticks(void) {
    *(volatile uint32_t *)0xe000e014 = 0xffffff;
    *(volatile uint32_t *)0xe000e018 = 0;
    *(volatile uint32_t *)0xe000e010 = 5;
}
static uint32_t since(uint32_t before) { return (ticks() - before) & 0xffffff; }
#endif

static void print_words(const int32_t words[], int count) {
    char text[10];
    int i, digit;
    for (i = 0; i < count; i++) {
        for (digit = 0; digit < 8; digit++)
            text[digit] = "0123456789abcdef"[((uint32_t)words[i] >> (28 - 4 * digit)) & 15];
        text[8] = i + 1 < count ? ' ' : '\n';
        text[9] = 0;
        semihost(4, text);
    }
}

__attribute__((noinline)) static void spin(uint32_t rounds) {
    /* two instructions a round */
#if defined(__riscv)
    __asm__ volatile("1: addi %0, %0, -1\nbnez %0, 1b" : "+r"(rounds));
#else
    __asm__ volatile(".syntax unified\n1: subs %0, %0, #1\nbne 1b" : "+l"(rounds) : : "cc");
#endif
}

int main(void) {
    int32_t scores[CLASSES + 1];
    uint32_t before;
    int image;
    start_ticks();
    before = ticks();
    spin(500000); /* a million instructions */
    scores[0] = (int32_t)since(before);
    print_words(scores, 1);
    for (image = 0; image < IMAGES; image++) {
        start_ticks();
        before = ticks();
        CLASSIFY(images + image * PIXELS, scores);
        scores[CLASSES] = (int32_t)since(before);
        print_words(scores, CLASSES + 1);
    }
    semihost(0x18, (const void *)0x20026); /* exit, application ended */
    for (;;) {}
}

/* What gcc may call for copies and clearing. */
void *memset(void *to, int byte, __SIZE_TYPE__ count);
void *memset(void *to, int byte, __SIZE_TYPE__ count) {
    uint8_t *p = to;
    while (count--) *p++ = (uint8_t)byte;
    return to;
}
void *memcpy(void *to, const void *from, __SIZE_TYPE__ count);
void *memcpy(void *to, const void *from, __SIZE_TYPE__ count) {
    uint8_t *p = to;
    const uint8_t *q = from;
    while (count--) *p++ = *q++;
    return to;
}

#if defined(__riscv)
__attribute__((naked, section(".start"))) void start(void);
__attribute__((naked, section(".start"))) void start(void) {
    __asm__ volatile("la sp, stack_top\nj main");
}
#else
extern uint32_t stack_top[];
static void fault(void) {
    semihost(4, "fault\n");
    semihost(0x18, (const void *)0x20023);
    for (;;) {}
}
__attribute__((used, section(".start"))) static const void *const vectors[] = {
    stack_top, (const void *)main, (const void *)fault, (const void *)fault,
};
#endif
