/* Everything that works value by value: batch norm's scale and shift, activations, dropout and
 * constant factors, in that order, in one pass over a map. */
#ifndef SMIDGEN_POINTWISE_H
#define SMIDGEN_POINTWISE_H

#include "convolution.h"
#include "worker.h"

/* Which of the steps there are: y = factor * keep * activation(scale * x + shift).
 * `threshold` is dropout's in 65536ths (0: none), which decides for each value or for whole
 * channels; `slopes` are PReLU's, one per channel or one for all. */
typedef struct {
    int has_norm, activation, has_slopes, shares_slope;
    float slope, factor;
    uint32_t threshold;
    int drops_channels;
} Pointwise;

INLINE VU mix(VU x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

/* What a dropout layer mixes with its elements' numbers, for the images at `position`, ... */
INLINE VU dropout_rows(uint32_t key, uint32_t step, uint32_t layer, uint32_t position) {
    VU lane = {0};
    for (int i = 0; i < LANES; i++) LANE(lane, i) = (position + (uint32_t)i) * 0xc2b2ae3du;
    VU once = mix(splat_bits(key ^ step * 0x9e3779b1u));
    return mix(mix(once ^ splat_bits(layer * 0x85ebca77u)) ^ lane);
}

INLINE VU dropout_keys(const Worker *w, int64_t block, int layer) {
    return dropout_rows(w->job->dropout_key, (uint32_t)w->step, (uint32_t)layer, (uint32_t)block * LANES);
}

/* Sixteen bits for element 2 * pair in the low half and for the one after it in the high. */
INLINE VU dropout_bits(VU rows, uint32_t pair) { return mix(rows ^ splat_bits(pair * 0x9e3779b1u)); }

INLINE VI keeps(VU bits, int odd, uint32_t threshold) {
    VU half = odd ? bits >> 16 : bits & 0xffffu;
    return (VI)half >= (VI)splat_bits(threshold);
}

enum { CHAINS = 4 }; /* as many independent sums hide the four cycles of an addition */

/* One channel's numbers, and the totals that the backward pass takes there. */
typedef struct {
    V scale, shift, slope, mean;
    V sum[CHAINS], product[CHAINS], slope_sum;
    VI kept;
} Channel;

INLINE Channel channel_of(Pointwise p, int c, const float *scale, const float *shift, const float *slopes,
                          const float *means, VU rows) {
    Channel channel = {.slope = splat(p.has_slopes ? slopes[p.shares_slope ? 0 : c] : p.slope)};
    if (p.drops_channels) channel.kept = keeps(dropout_bits(rows, (uint32_t)c >> 1), c & 1, p.threshold);
    if (p.has_norm) {
        channel.scale = splat(scale[c]);
        channel.shift = splat(shift[c]);
        channel.mean = splat(means ? means[c] : 0.0f);
    }
    return channel;
}

INLINE V pointwise_value(V x, VI kept, const Channel *channel, Pointwise p) {
    if (p.has_norm) x = x * channel->scale + channel->shift;
    if (p.activation == RELU) x = keep_unless(x <= 0, x);
    if (p.activation == LEAKY_RELU) x = choose(x > 0, x, x * channel->slope);
    if (p.threshold) x = keep_where(kept, x);
    return p.factor == 1.0f ? x : x * p.factor;
}

INLINE V pointwise_slope(V x, V g, VI kept, Channel *channel, int chain, Pointwise p) {
    if (p.threshold) g = keep_where(kept, g);
    if (p.factor != 1.0f) g *= p.factor;
    V z = p.has_norm ? x * channel->scale + channel->shift : x;
    if (p.has_slopes) channel->slope_sum += keep_unless(z > 0, g * z);
    if (p.activation == RELU) g = keep_where(z > 0, g);
    if (p.activation == LEAKY_RELU) g = choose(z > 0, g, g * channel->slope);
    if (p.has_norm) {
        channel->sum[chain] += g;
        channel->product[chain] += g * (x - channel->mean);
    }
    return g;
}

/* Which images keep an element of a channel, the even or odd one of its pair. */
INLINE VI kept_element(VU bits, int odd, const Channel *channel, Pointwise p) {
    return p.drops_channels ? channel->kept : keeps(bits, odd, p.threshold);
}

/* Element i of a row, forward (`g` is NULL: x to out) or backward (g and x to out). */
INLINE void pointwise_element(const V *x, const V *g, V *out, int i, int chain, VI kept, Channel *channel,
                              Pointwise p, int add) {
    V value = g ? pointwise_slope(x[i], g[i], kept, channel, chain, p) : pointwise_value(x[i], kept, channel, p);
    out[i] = add ? out[i] + value : value;
}

/* One row whose first value is the map's `element`-th. Two neighbors share one hash, so with
 * dropout the row is walked in pairs, from an even element on. */
INLINE void pointwise_row(const V *x, const V *g, V *out, int width, int element, VU rows, Channel *channel,
                          Pointwise p, int add) {
    int i = 0;
    const int has_pairs = p.threshold && !p.drops_channels;
    if (has_pairs && (element & 1)) {
        VU bits = dropout_bits(rows, element >> 1);
        pointwise_element(x, g, out, i++, 0, keeps(bits, 1, p.threshold), channel, p, add);
    }
    for (; i + CHAINS <= width; i += CHAINS)
        UNROLL for (int j = 0; j < CHAINS; j += 2) {
            VU bits = has_pairs ? dropout_bits(rows, (element + i + j) >> 1) : (VU){0};
            pointwise_element(x, g, out, i + j, j, kept_element(bits, 0, channel, p), channel, p, add);
            pointwise_element(x, g, out, i + j + 1, j + 1, kept_element(bits, 1, channel, p), channel, p, add);
        }
    for (int j = 0; i + j < width; j++) {
        VU bits = has_pairs ? dropout_bits(rows, (element + i + j) >> 1) : (VU){0};
        VI kept = j & 1 ? kept_element(bits, 1, channel, p) : kept_element(bits, 0, channel, p);
        pointwise_element(x, g, out, i + j, 0, kept, channel, p, add);
    }
}

/* y = the steps of `p` applied to x. */
INLINE void pointwise_forward(const V *x, Map in, V *y, Map out, Pointwise p, const float *scale,
                              const float *shift, const float *slopes, VU rows) {
    for (int c = 0; c < in.channels; c++) {
        Channel channel = channel_of(p, c, scale, shift, slopes, 0, rows);
        for (int row = 0; row < in.height; row++)
            pointwise_row(x + c * in.plane + row * in.pitch, 0, y + c * out.plane + row * out.pitch, in.width,
                          (c * in.height + row) * in.width, rows, &channel, p, 0);
    }
}

INLINE void store_sums(const Channel *channel, double *sums) {
    VD sum = {0}, product = {0};
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum += widen(channel->sum[i]);
        product += widen(channel->product[i]);
    }
    sums[0] = sum_lanes_wide(sum);
    sums[1] = sum_lanes_wide(product);
}

/* A PReLU's gradient: of the channel's own slope, or added to that of all. */
INLINE void store_slope(const Channel *channel, int c, Pointwise p, float *gradient, int add) {
    const int at = p.shares_slope ? 0 : c;
    gradient[at] = (add || at < c ? gradient[at] : 0.0f) + sum_lanes(channel->slope_sum);
}

/* dz (+)= the gradient before the steps (with a norm: between the norm and the activation, and
 * `sums` gets each channel's sum of dz and of dz * (x - mean)). `slope_gradient` is PReLU's. */
INLINE void pointwise_backward(const V *x, Map in, const V *g, Map out, V *dz, Map to, Pointwise p,
                               const float *scale, const float *shift, const float *means,
                               const float *slopes, VU rows, double *sums, float *slope_gradient,
                               int add_slopes, int add) {
    for (int c = 0; c < in.channels; c++) {
        Channel channel = channel_of(p, c, scale, shift, slopes, means, rows);
        for (int row = 0; row < in.height; row++)
            pointwise_row(x + c * in.plane + row * in.pitch, g + c * out.plane + row * out.pitch,
                          dz + c * to.plane + row * to.pitch, in.width, (c * in.height + row) * in.width, rows,
                          &channel, p, add);
        if (p.has_norm) store_sums(&channel, sums + 2 * c);
        if (p.has_slopes) store_slope(&channel, c, p, slope_gradient, add_slopes);
    }
}

/* g = the gradient before an activation, told by the sign of what it gave. */
INLINE V before_activation(V g, V y, int activation, float slope) {
    if (activation == RELU) return keep_where(y > 0, g);
    if (activation == LEAKY_RELU) return choose(y > 0, g, g * slope);
    return g;
}

INLINE void activation_backward(const V *y, Map map, V *g, Map of, int activation, float slope) {
    for (int c = 0; c < map.channels; c++)
        for (int row = 0; row < map.height; row++)
            for (int i = 0; i < map.width; i++) {
                V *value = g + c * of.plane + row * of.pitch + i;
                *value = before_activation(*value, y[c * map.plane + row * map.pitch + i], activation, slope);
            }
}

/* to (+)= from, value by value: concatenation, sums, and their gradients. */
INLINE void copy_map(const V *from, Map map, V *to, Map target, int add) {
    for (int c = 0; c < map.channels; c++)
        for (int row = 0; row < map.height; row++)
            for (int i = 0; i < map.width; i++) {
                V *value = to + c * target.plane + row * target.pitch + i;
                V given = from[c * map.plane + row * map.pitch + i];
                *value = add ? *value + given : given;
            }
}

#endif
