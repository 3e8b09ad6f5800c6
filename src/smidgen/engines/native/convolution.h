/* Convolutions, and dense layers as convolutions of 1x1 maps.
 *
 * Maps are [channel][row][column] of vectors; weights are PyTorch's [output][input][row][column].
 * Inputs that are padded carry a border of zeros, so the forward pass and the weight gradient
 * have no edges; gradients carry none, so the input gradient cuts its taps at compile time.
 * Tiles are chosen by the generator and held in registers: all sizes are constants once the
 * functions are inlined. 24 of the 32 registers of AVX-512 are sums, 12 of 16 elsewhere. */
#ifndef SMIDGEN_CONVOLUTION_H
#define SMIDGEN_CONVOLUTION_H

#include "vectors.h"

#define MAX_SUMS 32

/* Sums kept in registers: of `outputs` x `inputs` x kernel `rows` (weight gradient), or of
 * `outputs` x `columns` (forward) or `inputs` x `columns` (input gradient). */
typedef struct {
    int outputs, inputs, rows, columns;
} Tile;

/* What happens to a convolution's sums before they are stored: bias and activation; and
 * whether their sum and sum of squares are taken for the batch norm behind it. */
typedef struct {
    int has_bias, activation, takes_sums;
    float slope;
} Finish;

INLINE V activate(V x, int activation, float slope) {
    if (activation == RELU) return keep_unless(x <= 0, x); /* NaN stays NaN */
    if (activation == LEAKY_RELU) return choose(x > 0, x, x * slope);
    return x;
}

/* Adds a channel's values and their squares to `sums`; lanes without an image are left out.
 * Short runs are added in float and runs in double: mean and variance of a batch then agree
 * with PyTorch's to 1e-7 even where the mean is many deviations away from zero. */
INLINE void take_sums(const V *values, int count, VI images, VD *sums) {
    V sum = {0}, squares = {0};
    UNROLL for (int i = 0; i < count; i++) {
        V x = keep_where(images, values[i]);
        sum += x;
        squares += x * x;
    }
    sums[0] += widen(sum);
    sums[1] += widen(squares);
}

/* `tile.outputs` channels x `tile.columns` columns of one row: each vector loaded feeds
 * outputs x kernel columns multiply-adds, and weights are broadcast by the multiply-add itself.
 * 2 x 12 and 4 x 6 sums reach 250 of 246 nominal GFLOP/s (16 to 16 channels, 3x3, one core). */
INLINE void conv_tile(const V *x, Map in, int inputs, const float *weight, V *y, Map out, Window k,
                      Tile tile, const float *bias, Finish finish, VD *sums, VI images) {
    V acc[MAX_SUMS];
    const int filter = inputs * k.rows * k.columns;
    UNROLL for (int i = 0; i < tile.outputs * tile.columns; i++) acc[i] = (V){0};
    for (int c = 0; c < inputs; c++) {
        for (int ky = 0; ky < k.rows; ky++) {
            const V *row = x + c * in.plane + ky * k.gap_y * in.pitch;
            const float *w = weight + (c * k.rows + ky) * k.columns;
            UNROLL for (int ix = 0; ix < (tile.columns - 1) * k.step_x + (k.columns - 1) * k.gap_x + 1; ix++) {
                V value = row[ix];
                KEEP(value);
                UNROLL for (int kx = 0; kx < k.columns; kx++) {
                    const int from = ix - kx * k.gap_x;
                    if (from >= 0 && from % k.step_x == 0 && from / k.step_x < tile.columns)
                        UNROLL for (int o = 0; o < tile.outputs; o++)
                            acc[o * tile.columns + from / k.step_x] += value * w[o * filter + kx];
                }
            }
        }
    }
    UNROLL for (int o = 0; o < tile.outputs; o++) {
        UNROLL for (int i = 0; i < tile.columns; i++) {
            V *sum = &acc[o * tile.columns + i];
            if (finish.has_bias) *sum += bias[o];
            *sum = activate(*sum, finish.activation, finish.slope);
            y[o * out.plane + i] = *sum;
        }
        if (finish.takes_sums) take_sums(acc + o * tile.columns, tile.columns, images, sums + 2 * o);
    }
}

INLINE void conv_row(const V *x, Map in, int inputs, const float *weight, V *y, Map out, Window k,
                     Tile tile, const float *bias, Finish finish, VD *sums, VI images) {
    int ox = 0;
    for (; ox + tile.columns <= out.width; ox += tile.columns)
        conv_tile(x + ox * k.step_x, in, inputs, weight, y + ox, out, k, tile, bias, finish, sums, images);
    tile.columns = out.width % tile.columns;
    if (tile.columns)
        conv_tile(x + ox * k.step_x, in, inputs, weight, y + ox, out, k, tile, bias, finish, sums, images);
}

/* y = convolution of x; `sums` gets two totals per channel where `finish` takes them. */
INLINE void conv_forward(const V *x, Map in, const float *weight, const float *bias, V *y, Map out,
                         Window k, int groups, Tile tile, Finish finish, VD *sums, VI images) {
    const int inputs = in.channels / groups, outputs = out.channels / groups;
    const int filter = inputs * k.rows * k.columns, rest = outputs % tile.outputs;
    Tile last = tile;
    last.outputs = rest;
    if (finish.takes_sums)
        for (int i = 0; i < 2 * out.channels; i++) sums[i] = (VD){0};
    for (int group = 0; group < groups; group++) {
        const V *xg = x + group * inputs * in.plane - k.top * in.pitch - k.left;
        const int first = group * outputs;
        for (int oy = 0; oy < out.height; oy++) {
            const V *row = xg + oy * k.step_y * in.pitch;
            V *yr = y + first * out.plane + oy * out.pitch;
            int o = 0;
            for (; o + tile.outputs <= outputs; o += tile.outputs)
                conv_row(row, in, inputs, weight + (first + o) * filter, yr + o * out.plane, out, k, tile,
                         finish.has_bias ? bias + first + o : 0, finish, sums + 2 * (first + o), images);
            if (rest)
                conv_row(row, in, inputs, weight + (first + o) * filter, yr + o * out.plane, out, k, last,
                         finish.has_bias ? bias + first + o : 0, finish, sums + 2 * (first + o), images);
        }
    }
}

/* `tile.inputs` channels x `tile.columns` columns of one row of dx, from columns first..last of
 * dy (counted from the tile's own). The kernel rows that reach the row are a range known
 * beforehand; taps beyond the tile are cut at compile time. Each dy loaded feeds
 * inputs x kernel columns multiply-adds. */
INLINE void conv_input_tile(const V *dy, Map out, int outputs, const float *weight, int inputs, V *dx,
                            Map in, Window k, int iy, int first, int last, Tile tile, int add) {
    V acc[MAX_SUMS];
    const int area = k.rows * k.columns, shifted = iy + k.top;
    int low = shifted - (out.height - 1) * k.step_y;
    low = low > 0 ? low : 0;
    low += (shifted - low) % k.step_y;
    int high = shifted < k.rows - 1 ? shifted : k.rows - 1, next = k.step_y;
    if (k.gap_y > 1) { /* the rows that reach this one are then no plain range: each is asked */
        low = 0;
        high = k.rows - 1;
        next = 1;
    }
    UNROLL for (int i = 0; i < tile.inputs * tile.columns; i++) acc[i] = (V){0};
    for (int o = 0; o < outputs; o++) {
        for (int ky = low; ky <= high; ky += next) {
            const int from = shifted - ky * k.gap_y;
            const int reaches = from >= 0 && from % k.step_y == 0 && from / k.step_y < out.height;
            const V *row = dy + o * out.plane + (k.gap_y > 1 && !reaches ? 0 : from / k.step_y) * out.pitch;
            const float *w = weight + o * inputs * area + ky * k.columns;
            UNROLL for (int ox = first; ox <= last; ox++) {
                V value = k.gap_y > 1 && !reaches ? (V){0} : row[ox];
                KEEP(value);
                UNROLL for (int kx = 0; kx < k.columns; kx++) {
                    const int column = ox * k.step_x + kx * k.gap_x - k.left;
                    if (column >= 0 && column < tile.columns)
                        UNROLL for (int c = 0; c < tile.inputs; c++)
                            acc[c * tile.columns + column] += value * w[c * area + kx];
                }
            }
        }
    }
    UNROLL for (int c = 0; c < tile.inputs; c++)
        UNROLL for (int i = 0; i < tile.columns; i++) {
            V *target = dx + c * in.plane + i;
            *target = add ? *target + acc[c * tile.columns + i] : acc[c * tile.columns + i];
        }
}

INLINE int smaller(int a, int b) { return a < b ? a : b; }

/* A row in tiles. Those in the middle, far from both edges of dy, are one loop; at the edges
 * each is code of its own with its taps cut. `tile.columns` is a multiple of the stride unless
 * it is the whole row. */
INLINE void conv_input_row(const V *dy, Map out, int outputs, const float *weight, int inputs, V *dx,
                           Map in, Window k, int iy, Tile tile, int add) {
    const int step = tile.columns / k.step_x; /* columns of dy from tile to tile */
    const int reach = (k.columns - 1) * k.gap_x - k.left; /* of dx before the tile that dy before it touches */
    const int first = reach > 0 ? -(reach / k.step_x) : (-reach + k.step_x - 1) / k.step_x;
    const int last = (tile.columns - 1 + k.left) / k.step_x, tiles = in.width / tile.columns;
    const int edge = step == 0 ? 1 : first < 0 ? (step - 1 - first) / step : 0; /* tiles at the left edge */
    const int whole = smaller(edge, in.width / tile.columns);
    const int fitting = step == 0 || out.width - 1 < last ? 0 : (out.width - 1 - last) / step + 1;
    const int right = smaller(tiles, fitting > whole ? fitting : whole);
    UNROLL for (int i = 0; i < whole; i++)
        conv_input_tile(dy, out, outputs, weight, inputs, dx, in, k, iy, first > 0 ? first : 0,
                        smaller(last, out.width - 1), tile, add);
    for (int i = whole; i < right; i++)
        conv_input_tile(dy + i * step, out, outputs, weight, inputs, dx + i * tile.columns, in, k, iy, first,
                        last, tile, add);
    UNROLL for (int i = right; i < tiles; i++)
        conv_input_tile(dy + i * step, out, outputs, weight, inputs, dx + i * tile.columns, in, k, iy,
                        first > -i * step ? first : -i * step, smaller(last, out.width - 1 - i * step), tile, add);
    Tile rest = tile;
    rest.columns = in.width % tile.columns;
    if (rest.columns)
        conv_input_tile(dy + tiles * step, out, outputs, weight, inputs, dx + tiles * tile.columns, in, k, iy,
                        first > -tiles * step ? first : -tiles * step,
                        smaller((rest.columns - 1 + k.left) / k.step_x, out.width - 1 - tiles * step), rest, add);
}

/* Row iy of all channels; `dx` is where the row of the first one goes. */
INLINE void conv_input_line(const V *dy, Map out, const float *weight, V *dx, Map in, Window k, int groups, int iy,
                            Tile tile, int add) {
    const int inputs = in.channels / groups, outputs = out.channels / groups;
    const int area = k.rows * k.columns, rest = inputs % tile.inputs;
    Tile last = tile;
    last.inputs = rest;
    for (int group = 0; group < groups; group++) {
        const V *dyg = dy + group * outputs * out.plane;
        const float *wg = weight + group * outputs * inputs * area;
        V *row = dx + group * inputs * in.plane;
        int c = 0;
        for (; c + tile.inputs <= inputs; c += tile.inputs)
            conv_input_row(dyg, out, outputs, wg + c * area, inputs, row + c * in.plane, in, k, iy, tile, add);
        if (rest)
            conv_input_row(dyg, out, outputs, wg + c * area, inputs, row + c * in.plane, in, k, iy, last, add);
    }
}

/* dx (+)= what dy says about the input. */
INLINE void conv_input_gradient(const V *dy, Map out, const float *weight, V *dx, Map in, Window k,
                                int groups, Tile tile, int add) {
    for (int iy = 0; iy < in.height; iy++)
        conv_input_line(dy, out, weight, dx + iy * in.pitch, in, k, groups, iy, tile, add);
}

/* Sums `count` vectors over their lanes into out[0..count); count <= MAX_SUMS. */
INLINE void fold_lanes(V *acc, int count, float *out) {
    UNROLL for (int done = 0; done < count; done += LANES) {
        int width = 1;
        UNROLL for (int i = 0; i < 4; i++) width = width < count - done && width < LANES ? 2 * width : width;
        UNROLL for (int i = count; i < done + width; i++) acc[i] = (V){0};
        V sums = sum_each(acc + done, width);
        UNROLL for (int i = 0; i < LANES; i++)
            if (i < width && done + i < count) out[done + i] = LANE(sums, i);
    }
}

/* Gradients of outputs x inputs x kernel rows x all kernel columns, summed over the whole map:
 * 4 x 2 x 1 x 3 keeps 24 sums and needs 10 loads for 24 multiply-adds at each position. The
 * lanes are folded once, at the end. */
INLINE void conv_weight_tile(const V *x, Map in, const V *dy, Map out, Window k, Tile tile, float *gradient,
                             int inputs, int add) {
    V acc[MAX_SUMS];
    const int area = k.rows * k.columns, size = tile.inputs * tile.rows * k.columns;
    UNROLL for (int i = 0; i < tile.outputs * size; i++) acc[i] = (V){0};
    for (int oy = 0; oy < out.height; oy++) {
        const V *xr = x + oy * k.step_y * in.pitch, *dr = dy + oy * out.pitch;
        for (int ox = 0; ox < out.width; ox++, xr += k.step_x, dr++) {
            V d[MAX_SUMS];
            UNROLL for (int o = 0; o < tile.outputs; o++) {
                d[o] = dr[o * out.plane];
                KEEP(d[o]);
            }
            UNROLL for (int i = 0; i < size; i++) {
                V value = xr[i / (tile.rows * k.columns) * in.plane +
                             i / k.columns % tile.rows * k.gap_y * in.pitch + i % k.columns * k.gap_x];
                UNROLL for (int o = 0; o < tile.outputs; o++) acc[o * size + i] += d[o] * value;
            }
        }
    }
    float folded[MAX_SUMS];
    fold_lanes(acc, tile.outputs * size, folded);
    UNROLL for (int o = 0; o < tile.outputs; o++)
        UNROLL for (int i = 0; i < size; i++) {
            const int c = i / (tile.rows * k.columns), tap = i % (tile.rows * k.columns);
            float *target = gradient + (o * inputs + c) * area + tap;
            *target = add ? *target + folded[o * size + i] : folded[o * size + i];
        }
}

INLINE void conv_weight_rows(const V *x, Map in, const V *dy, Map out, Window k, Tile tile, float *gradient,
                             int inputs, int add) {
    Tile last = tile;
    last.rows = k.rows % tile.rows;
    int ky = 0;
    for (; ky + tile.rows <= k.rows; ky += tile.rows)
        conv_weight_tile(x + ky * k.gap_y * in.pitch, in, dy, out, k, tile, gradient + ky * k.columns, inputs, add);
    if (last.rows)
        conv_weight_tile(x + ky * k.gap_y * in.pitch, in, dy, out, k, last, gradient + ky * k.columns, inputs, add);
}

INLINE void conv_weight_inputs(const V *x, Map in, const V *dy, Map out, Window k, Tile tile, float *gradient,
                               int inputs, int add) {
    Tile last = tile;
    const int area = k.rows * k.columns;
    last.inputs = inputs % tile.inputs;
    int c = 0;
    for (; c + tile.inputs <= inputs; c += tile.inputs)
        conv_weight_rows(x + c * in.plane, in, dy, out, k, tile, gradient + c * area, inputs, add);
    if (last.inputs)
        conv_weight_rows(x + c * in.plane, in, dy, out, k, last, gradient + c * area, inputs, add);
}

/* gradient (+)= the weights' gradient over one block's images. */
INLINE void conv_weight_gradient(const V *x, Map in, const V *dy, Map out, Window k, int groups, Tile tile,
                                 float *gradient, int add) {
    const int inputs = in.channels / groups, outputs = out.channels / groups;
    const int filter = inputs * k.rows * k.columns;
    Tile last = tile;
    last.outputs = outputs % tile.outputs;
    for (int group = 0; group < groups; group++) {
        const V *xg = x + group * inputs * in.plane - k.top * in.pitch - k.left;
        const V *dyg = dy + group * outputs * out.plane;
        float *g = gradient + group * outputs * filter;
        int o = 0;
        for (; o + tile.outputs <= outputs; o += tile.outputs)
            conv_weight_inputs(xg, in, dyg + o * out.plane, out, k, tile, g + o * filter, inputs, add);
        if (last.outputs)
            conv_weight_inputs(xg, in, dyg + o * out.plane, out, k, last, g + o * filter, inputs, add);
    }
}

/* gradient (+)= the biases' gradient: the sum of each channel. */
INLINE void bias_gradient(const V *dy, Map map, float *gradient, int add) {
    for (int c = 0; c < map.channels; c++) {
        V sum = {0};
        for (int y = 0; y < map.height; y++)
            for (int x = 0; x < map.width; x++) sum += dy[c * map.plane + y * map.pitch + x];
        gradient[c] = (add ? gradient[c] : 0.0f) + sum_lanes(sum);
    }
}

#endif
