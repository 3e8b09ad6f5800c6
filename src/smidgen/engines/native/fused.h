/* Two stages in one pass where a large map between them would otherwise be written and read. */
#ifndef SMIDGEN_FUSED_H
#define SMIDGEN_FUSED_H

#include "pointwise.h"

/* Which cells of a window dropout keeps; rows of even width share hashes as `pointwise_row` does. */
INLINE VI kept_cell(Map in, VU rows, Pointwise p, const Channel *channel, int c, int y, int x, int odd) {
    const int element = (c * in.height + y) * in.width + x;
    if (!p.threshold) return (VI){0};
    if (p.drops_channels) return channel->kept;
    if (in.width % 2 == 0) return keeps(dropout_bits(rows, element >> 1), odd, p.threshold);
    VU bits = dropout_bits(rows, element >> 1);
    return element & 1 ? keeps(bits, 1, p.threshold) : keeps(bits, 0, p.threshold);
}

enum { MAX_CELLS = 16 };

/* The values of one window after the steps of `p`, and which cells dropout kept. */
INLINE V window_values(const V *x, Map in, int c, int oy, int ox, Window k, Pointwise p, const Channel *channel,
                       VU rows, V *values, VI *kept) {
    V largest = {0};
    UNROLL for (int i = 0; i < k.rows * k.columns; i++) {
        const int y = oy * k.rows + i / k.columns, column = ox * k.columns + i % k.columns;
        kept[i] = kept_cell(in, rows, p, channel, c, y, column, k.columns % 2 == 0 ? i % 2 : column % 2);
        values[i] = pointwise_value(x[y * in.pitch + column], kept[i], channel, p);
        largest = i ? choose(values[i] <= largest, largest, values[i]) : values[i];
    }
    return largest;
}

/* y = the largest of each window after the steps of `p`: the map in between is never written,
 * which halves the traffic of a norm before a pool. Windows tile the map. */
INLINE void pointwise_pool_forward(const V *x, Map in, V *y, Map out, Pointwise p, Window k, const float *scale,
                                   const float *shift, const float *slopes, VU rows) {
    for (int c = 0; c < in.channels; c++) {
        Channel channel = channel_of(p, c, scale, shift, slopes, 0, rows);
        for (int oy = 0; oy < out.height; oy++)
            for (int ox = 0; ox < out.width; ox++) {
                V values[MAX_CELLS];
                VI kept[MAX_CELLS];
                y[c * out.plane + oy * out.pitch + ox] =
                    window_values(x + c * in.plane, in, c, oy, ox, k, p, &channel, rows, values, kept);
            }
    }
}

/* dz as in `pointwise_backward`, from the gradient behind the pool: the first of a window's
 * largest values gets it, as in PyTorch; cells that no window covers get 0. */
INLINE void pointwise_pool_backward(const V *x, Map in, const V *g, Map out, V *dz, Map to, Pointwise p, Window k,
                                    const float *scale, const float *shift, const float *means,
                                    const float *slopes, VU rows, double *sums, float *slope_gradient,
                                    int add_slopes) {
    if (in.height % k.rows || in.width % k.columns) clear_map(dz, to);
    for (int c = 0; c < in.channels; c++) {
        Channel channel = channel_of(p, c, scale, shift, slopes, means, rows);
        for (int oy = 0; oy < out.height; oy++)
            for (int ox = 0; ox < out.width; ox++) {
                V values[MAX_CELLS], left = g[c * out.plane + oy * out.pitch + ox];
                VI kept[MAX_CELLS];
                V largest = window_values(x + c * in.plane, in, c, oy, ox, k, p, &channel, rows, values, kept);
                UNROLL for (int i = 0; i < k.rows * k.columns; i++) {
                    const int y = oy * k.rows + i / k.columns, column = ox * k.columns + i % k.columns;
                    const VI wins = values[i] == largest;
                    dz[c * to.plane + y * to.pitch + column] =
                        pointwise_slope(x[c * in.plane + y * in.pitch + column], keep_where(wins, left), kept[i],
                                        &channel, i % CHAINS, p);
                    left = keep_unless(wins, left);
                }
            }
        store_sums(&channel, sums + 2 * c);
        if (p.has_slopes) store_slope(&channel, c, p, slope_gradient, add_slopes);
    }
}

/* One row of all channels of `pointwise_backward`, from a row buffer that still is in the first
 * cache; `totals` collects what becomes `sums`. */
INLINE void pointwise_backward_row(const V *x, Map in, const V *g, V *dz, int y, Pointwise p, const float *scale,
                                   const float *shift, const float *means, VU rows, VD *totals) {
    for (int c = 0; c < in.channels; c++) {
        Channel channel = channel_of(p, c, scale, shift, 0, means, rows);
        pointwise_row(x + c * in.plane + y * in.pitch, g + c * in.width, dz + (c * in.height + y) * in.width, in.width,
                      (c * in.height + y) * in.width, rows, &channel, p, 0);
        UNROLL for (int i = 1; i < CHAINS; i++) {
            channel.sum[0] += channel.sum[i];
            channel.product[0] += channel.product[i];
        }
        totals[2 * c] += widen(channel.sum[0]);
        totals[2 * c + 1] += widen(channel.product[0]);
    }
}

/* A convolution's input gradient and, row by row, the gradient before the norm in front of it:
 * what lies between needs one row of memory and never leaves the first cache. */
INLINE void conv_input_norm_gradient(const V *dy, Map out, const float *weight, const V *x, Map in, V *dz,
                                     Window k, int groups, Tile tile, Pointwise p, const float *scale,
                                     const float *shift, const float *means, VU rows, VD *totals, double *sums) {
    V row[in.channels * in.width];
    const Map line = {in.channels, in.height, in.width, 0, in.width};
    for (int i = 0; i < 2 * in.channels; i++) totals[i] = (VD){0};
    for (int y = 0; y < in.height; y++) {
        conv_input_line(dy, out, weight, row, line, k, groups, y, tile, 0);
        pointwise_backward_row(x, in, row, dz, y, p, scale, shift, means, rows, totals);
    }
    for (int i = 0; i < 2 * in.channels; i++) sums[i] = sum_lanes_wide(totals[i]);
}

#endif
