/* Vectors of LANES images, and the little arithmetic that everything else is built from.
 *
 * Every value of the network is a vector whose lane i belongs to the i-th image of a block, so
 * no arithmetic ever mixes lanes; only sums over images do, at the very end. */
#ifndef SMIDGEN_VECTORS_H
#define SMIDGEN_VECTORS_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t VI __attribute__((vector_size(4 * LANES)));
typedef uint32_t VU __attribute__((vector_size(4 * LANES)));
typedef double VD __attribute__((vector_size(8 * LANES)));

/* Forces a value into a register: gcc otherwise reads it anew, from memory, for every use. */
#if defined(__wasm__) || LANES == 1
#define KEEP(v) ((void)0)
#elif defined(__aarch64__) || defined(__ARM_NEON)
#define KEEP(v) __asm__("" : "+w"(v))
#else
#define KEEP(v) __asm__("" : "+v"(v))
#endif

/* Shape of a map in memory: rows are `pitch` vectors apart and channels `plane`. */
typedef struct {
    int channels, height, width, pitch, plane;
} Map;

/* How far an output looks: kernel, stride, and cells added above and left of the input. */
typedef struct {
    int rows, columns, step_y, step_x, top, left;
} Window;

enum { NO_ACTIVATION, RELU, LEAKY_RELU };

INLINE V splat(float x) { return x - (V){}; }
INLINE VU splat_bits(uint32_t x) { return x - (VU){}; }
INLINE V keep_where(VI mask, V x) { return (V)(mask & (VI)x); }
INLINE V choose(VI mask, V yes, V no) { return (V)((mask & (VI)yes) | (~mask & (VI)no)); }
INLINE V larger(V a, V b) { return choose(a > b, a, b); }
INLINE VD widen(V x) { return __builtin_convertvector(x, VD); }

INLINE float sum_lanes(V x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

INLINE double sum_lanes_wide(VD x) {
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

/* Lanes 0, 2, 4, ... (or 1, 3, 5, ...) of a, then of b. */
#if LANES == 16
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif LANES == 8
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#elif LANES == 4
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#endif

/* Sums each of up to LANES vectors over its lanes; lane i of the result belongs to sums[i].
 *
 * Adding neighbors of two vectors at a time halves their number in each round, so that 16
 * vectors cost 45 instructions and not 16 x 15. `count` is a power of two. */
INLINE V sum_each(V *sums, int count) {
#if LANES > 1
    UNROLL for (int width = count; width > 1; width /= 2)
        UNROLL for (int i = 0; i < width / 2; i++)
            sums[i] = EVEN(sums[2 * i], sums[2 * i + 1]) + ODD(sums[2 * i], sums[2 * i + 1]);
    UNROLL for (int width = count; width < LANES; width *= 2)
        sums[0] = EVEN(sums[0], sums[0]) + ODD(sums[0], sums[0]);
#endif
    return sums[0];
}

/* e^x to 2e-7 relative, for x in [-87, 88]; smaller x count as -87.
 * Larger x never arrive, so there is no clamp above: the loss asks for scores minus the largest
 * of them and for logarithms of shares, which are at most 0, and `logarithm` for at most 70.
 * x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial, 2^n by its bits. */
INLINE V exponential(V x) {
    x = larger(x, splat(-87.0f));
    VI n = __builtin_convertvector(x * 1.44269504f + choose(x > 0, splat(0.5f), splat(-0.5f)), VI);
    V whole = __builtin_convertvector(n, V);
    V r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    V sum = 1.0f / 5040.0f * r + 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    return sum * (V)((n + 127) << 23);
}

/* ln x for x >= 1e-30: a first guess from the exponent's bits, then Newton on e^y = x. */
INLINE V logarithm(V x) {
    V y = __builtin_convertvector((VI)x - 0x3f78aa3b, V) * 8.26295829e-8f;
    UNROLL for (int i = 0; i < 3; i++) y = y + (x * exponential(-y) - 1.0f);
    return y;
}

/* Starts the border around a map at zero, where convolutions read their padding. */
INLINE void clear_border(V *x, Map map, int top, int left, int bottom, int right) {
    for (int c = 0; c < map.channels; c++) {
        V *plane = x + c * map.plane;
        for (int y = -top; y < map.height + bottom; y++) {
            int inside = y >= 0 && y < map.height;
            for (int i = -left; i < (inside ? 0 : map.width + right); i++) plane[y * map.pitch + i] = (V){};
            for (int i = map.width; inside && i < map.width + right; i++) plane[y * map.pitch + i] = (V){};
        }
    }
}

INLINE void clear_map(V *x, Map map) {
    for (int c = 0; c < map.channels; c++)
        for (int row = 0; row < map.height; row++)
            for (int i = 0; i < map.width; i++) x[c * map.plane + row * map.pitch + i] = (V){};
}

#endif
