/* Vectors of LANES images, and the little arithmetic that everything else is built from.
 *
 * Every value of the network is a vector whose lane i belongs to the i-th image of a block, so
 * no arithmetic ever mixes lanes; only sums over images do, at the very end. There are two bodies:
 * vector extensions of gcc and clang, and plain C99 for one image (SMIDGEN_SCALAR). */
#ifndef SMIDGEN_VECTORS_H
#define SMIDGEN_VECTORS_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

#if defined(SMIDGEN_SCALAR)

/* One image and plain C99: a mask is true where its lowest bit is set, as in what a comparison
 * gives and in -1. */
#if LANES != 1
#error "The scalar body holds one image: LANES must be 1"
#endif
typedef float V;
typedef int32_t VI;
typedef uint32_t VU;
typedef double VD;

#define LANE(v, i) (v)
#define KEEP(v) ((void)0)

INLINE V splat(float x) { return x; }
INLINE VU splat_bits(uint32_t x) { return x; }
INLINE VI choose_whole(VI mask, VI yes, VI no) { return mask & 1 ? yes : no; }
INLINE V choose(VI mask, V yes, V no) { return mask & 1 ? yes : no; }
INLINE V keep_where(VI mask, V x) { return mask & 1 ? x : 0.0f; }
INLINE V keep_unless(VI mask, V x) { return mask & 1 ? 0.0f : x; }
INLINE VD widen(V x) { return x; }
INLINE VI whole_part(V x) { return (VI)x; }
INLINE V from_whole(VI x) { return (V)x; }
INLINE VI bits_of(V x) {
    const union { V value; VI bits; } both = {x};
    return both.bits;
}
INLINE V from_bits(VI x) {
    const union { VI bits; V value; } both = {x};
    return both.value;
}

#else

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t VI __attribute__((vector_size(4 * LANES)));
typedef uint32_t VU __attribute__((vector_size(4 * LANES)));
#if LANES == 1 /* working memory is laid out in floats: a double may stand at an odd one */
typedef double VD __attribute__((vector_size(8), aligned(4)));
#else
typedef double VD __attribute__((vector_size(8 * LANES)));
#endif

/* Forces a value into a register: gcc otherwise reads it anew, from memory, for every use. */
#if defined(__wasm__) || LANES == 1
#define KEEP(v) ((void)0)
#elif defined(__aarch64__) || defined(__ARM_NEON)
#define KEEP(v) __asm__("" : "+w"(v))
#else
#define KEEP(v) __asm__("" : "+v"(v))
#endif

#define LANE(v, i) (v)[i]

INLINE V splat(float x) { return x - (V){0}; }
INLINE VU splat_bits(uint32_t x) { return x - (VU){0}; }
INLINE VI choose_whole(VI mask, VI yes, VI no) { return (mask & yes) | (~mask & no); }
INLINE V choose(VI mask, V yes, V no) { return (V)choose_whole(mask, (VI)yes, (VI)no); }
INLINE V keep_where(VI mask, V x) { return (V)(mask & (VI)x); }
INLINE V keep_unless(VI mask, V x) { return (V)(~mask & (VI)x); }
INLINE VD widen(V x) { return __builtin_convertvector(x, VD); }
INLINE VI whole_part(V x) { return __builtin_convertvector(x, VI); }
INLINE V from_whole(VI x) { return __builtin_convertvector(x, V); }
INLINE VI bits_of(V x) { return (VI)x; }
INLINE V from_bits(VI x) { return (V)x; }

#endif

/* Shape of a map in memory: rows are `pitch` vectors apart and channels `plane`. */
typedef struct {
    int channels, height, width, pitch, plane;
} Map;

/* How far an output looks: kernel, stride, cells added above and left of the input, and how many
 * cells the kernel's own are apart. */
typedef struct {
    int rows, columns, step_y, step_x, top, left, gap_y, gap_x;
} Window;

enum { NO_ACTIVATION, RELU, LEAKY_RELU };

INLINE V larger(V a, V b) { return choose(a > b, a, b); }

INLINE float sum_lanes(V x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += LANE(x, i);
    return sum;
}

INLINE double sum_lanes_wide(VD x) {
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += LANE(x, i);
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
#else
    (void)count;
#endif
    return sums[0];
}

/* e^x to 2e-7 relative, for x in [-87, 88]; smaller x count as -87.
 * Larger x never arrive, so there is no clamp above: the loss asks for scores minus the largest
 * of them and for logarithms of shares, which are at most 0, and `logarithm` for at most 70.
 * x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial, 2^n by its bits. */
INLINE V exponential(V x) {
    x = larger(x, splat(-87.0f));
    VI n = whole_part(x * 1.44269504f + choose(x > 0, splat(0.5f), splat(-0.5f)));
    V whole = from_whole(n);
    V r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    V sum = 1.0f / 5040.0f * r + 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    return sum * from_bits((n + 127) << 23);
}

/* ln x for x >= 1e-30: a first guess from the exponent's bits, then Newton on e^y = x. */
INLINE V logarithm(V x) {
    V y = from_whole(bits_of(x) - 0x3f78aa3b) * 8.26295829e-8f;
    UNROLL for (int i = 0; i < 3; i++) y = y + (x * exponential(-y) - 1.0f);
    return y;
}

/* Starts the border around a map at zero, where convolutions read their padding. */
INLINE void clear_border(V *x, Map map, int top, int left, int bottom, int right) {
    for (int c = 0; c < map.channels; c++) {
        V *plane = x + c * map.plane;
        for (int y = -top; y < map.height + bottom; y++) {
            int inside = y >= 0 && y < map.height;
            for (int i = -left; i < (inside ? 0 : map.width + right); i++) plane[y * map.pitch + i] = (V){0};
            for (int i = map.width; inside && i < map.width + right; i++) plane[y * map.pitch + i] = (V){0};
        }
    }
}

INLINE void clear_map(V *x, Map map) {
    for (int c = 0; c < map.channels; c++)
        for (int row = 0; row < map.height; row++)
            for (int i = 0; i < map.width; i++) x[c * map.plane + row * map.pitch + i] = (V){0};
}

#endif
