/* The fast form: every stage is written out with its own sizes. Up to four outputs at a time (a0 to
   a3) share what is loaded. Where the core has SMLAD (Cortex-M4, M7, M33), four taps are two of
   them. All of it is integers, so both give the same bits. */
#if defined(__GNUC__) && defined(__thumb__) && !defined(__thumb2__)
/* Keeps weights from being loaded ahead of a loop, into registers that there are not. */
#define NAME_HERE(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory");
#else
#define NAME_HERE(pointer)
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
typedef int16_t NAME_wide;
static inline uint32_t NAME_word(const void *p) {
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}
#define NAME_HALVES(kind, suffix, turn)                                       \
    static inline uint32_t NAME_##kind##suffix(uint32_t word) {               \
        uint32_t halves;                                                      \
        __asm__(#kind " %0, %1" turn : "=r"(halves) : "r"(word));             \
        return halves;                                                        \
    }
NAME_HALVES(sxtb16, _even, "")
NAME_HALVES(sxtb16, _odd, ", ror #8")
NAME_HALVES(uxtb16, _even, "")
NAME_HALVES(uxtb16, _odd, ", ror #8")
static inline int32_t NAME_smlad(uint32_t x, uint32_t y, int32_t sum) {
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
    return sum;
}
static inline uint32_t NAME_pair(int32_t low, int32_t high) {
    return ((uint32_t)low & 0xffffu) | (uint32_t)high << 16;
}
#define NAME_CELLS(p) even = NAME_sxtb16_even(NAME_word(p)), odd = NAME_sxtb16_odd(NAME_word(p))
#define NAME_PIXELS(p) even = NAME_uxtb16_even(NAME_word(p)), odd = NAME_uxtb16_odd(NAME_word(p))
#define NAME_WIDES(p) even = NAME_word(p), odd = NAME_word((p) + 2)
#define NAME_APART(x0, x1, x2, x3) even = NAME_pair(x0, x2), odd = NAME_pair(x1, x3)
#define NAME_MAC(a, w) \
    a = NAME_smlad(odd, NAME_sxtb16_odd(NAME_word(w)), \
                   NAME_smlad(even, NAME_sxtb16_even(NAME_word(w)), a));
#define NAME_QUAD1(x, w, at) { const uint32_t x; NAME_MAC(a0, (w) + at) }
#define NAME_QUAD2(x, w, at) \
    { const uint32_t x; NAME_MAC(a0, (w) + at) NAME_MAC(a1, (w) + at + 4) }
#define NAME_QUAD3(x, w, at)                                    \
    {                                                           \
        const uint32_t x;                                       \
        NAME_MAC(a0, (w) + at) NAME_MAC(a1, (w) + at + 4)       \
        NAME_MAC(a2, (w) + at + 8)                              \
    }
#define NAME_QUAD4(x, w, at)                                    \
    {                                                           \
        const uint32_t x;                                       \
        NAME_MAC(a0, (w) + at) NAME_MAC(a1, (w) + at + 4)       \
        NAME_MAC(a2, (w) + at + 8) NAME_MAC(a3, (w) + at + 12)  \
    }
#else
typedef int32_t NAME_wide;
#define NAME_CELLS(p) (p)[0], (p)[1], (p)[2], (p)[3]
#define NAME_PIXELS(p) (p)[0], (p)[1], (p)[2], (p)[3]
#define NAME_WIDES(p) (p)[0], (p)[2], (p)[1], (p)[3]
#define NAME_APART(x0, x1, x2, x3) x0, x1, x2, x3
#define NAME_QUAD1(x, w, at) NAME_EACH(NAME_TAP1, w, at, x)
#define NAME_QUAD2(x, w, at) NAME_EACH(NAME_TAP2, w, at, x)
#define NAME_QUAD3(x, w, at) NAME_EACH(NAME_TAP3, w, at, x)
#define NAME_QUAD4(x, w, at) NAME_EACH(NAME_TAP4, w, at, x)
#define NAME_EACH(tap, w, at, ...) NAME_EACH_(tap, w, at, __VA_ARGS__)
#define NAME_EACH_(tap, w, at, x0, x1, x2, x3) \
    { tap(x0, w, at, 4) tap(x1, w, at + 1, 4) tap(x2, w, at + 2, 4) tap(x3, w, at + 3, 4) }
#endif
#define NAME_TAP1(x, w, at, n) { const int32_t x_ = x; NAME_STEP(a0, x_, w, at) }
#define NAME_TAP2(x, w, at, n) \
    { const int32_t x_ = x; NAME_STEP(a0, x_, w, at) NAME_STEP(a1, x_, w, at + n) }
#define NAME_TAP3(x, w, at, n)                                        \
    {                                                                 \
        const int32_t x_ = x;                                         \
        NAME_STEP(a0, x_, w, at) NAME_STEP(a1, x_, w, at + n)         \
        NAME_STEP(a2, x_, w, at + 2 * n)                              \
    }
#define NAME_TAP4(x, w, at, n)                                        \
    {                                                                 \
        const int32_t x_ = x;                                         \
        NAME_STEP(a0, x_, w, at) NAME_STEP(a1, x_, w, at + n)         \
        NAME_STEP(a2, x_, w, at + 2 * n) NAME_STEP(a3, x_, w, at + 3 * n) \
    }
#if defined(__GNUC__) && defined(__thumb__) && !defined(__thumb2__) && defined(__OPTIMIZE__)
/* Cortex-M0: four instructions; left alone, gcc keeps more in registers than there are. */
#define NAME_STEP(a, x, w, at)                                                         \
    {                                                                                  \
        int32_t step_;                                                                 \
        __asm__(".syntax unified\nmovs %1, %4\nldrsb %1, [%3, %1]\nmuls %1, %2, %1\n"  \
                "adds %0, %0, %1"                                                      \
                : "+l"(a), "=&l"(step_) : "l"((int32_t)(x)), "l"(w), "i"(at) : "cc");             \
    }
#else
#define NAME_STEP(a, x, w, at) a += x * (w)[at];
#endif

/* From a sum to t; q: factor above 0, factor below 0, bias, shift. */
static inline int32_t NAME_activated(int32_t a, int shift_a, const int32_t *q) {
    a = (a >> shift_a) + q[2];
    return (a * q[a < 0]) >> q[3];
}
static inline int32_t NAME_rectified(int32_t a, int shift_a, const int32_t *q) {
    a = (a >> shift_a) + q[2];
    return ((a & ~(a >> 31)) * q[0]) >> q[3];
}
static inline int8_t NAME_clamped(int32_t t, int shift) {
    t = (t + (1 << shift >> 1)) >> shift;
    return (int8_t)(t > 127 ? 127 : t < -127 ? -127 : t);
}

