/* Batch norm's passes over a batch, and the norm of single images. */
#ifndef SMIDGEN_NORM_H
#define SMIDGEN_NORM_H

#include "pointwise.h"

/* Sums and sums of squares of each channel, for values that no convolution produced. */
INLINE void norm_sums(const V *x, Map map, VI images, double *sums) {
    for (int c = 0; c < map.channels; c++) {
        VD totals[2] = {0};
        for (int row = 0; row < map.height; row++) {
            V sum = {0}, squares = {0};
            for (int i = 0; i < map.width; i++) {
                V value = keep_where(images, x[c * map.plane + row * map.pitch + i]);
                sum += value;
                squares += value * value;
            }
            totals[0] += widen(sum);
            totals[1] += widen(squares);
        }
        sums[2 * c] = sum_lanes_wide(totals[0]);
        sums[2 * c + 1] = sum_lanes_wide(totals[1]);
    }
}

/* The same from the totals that a convolution took while it stored its values. */
INLINE void fold_sums(VD *totals, int channels, double *sums) {
    for (int i = 0; i < 2 * channels; i++) sums[i] = sum_lanes_wide(totals[i]);
}

/* Batch norm's input gradient, linear in dz and x: dx (+)= k1 * dz + k2 * x + k3, and before
 * the activation that gave x where there is one. Lanes without an image get 0, so that no
 * gradient below ever sees them. */
INLINE void norm_backward(const V *x, Map in, const V *dz, Map of, V *dx, Map to, const float *k1,
                          const float *k2, const float *k3, int activation, float slope, VI images, int add) {
    for (int c = 0; c < in.channels; c++) {
        const V a = splat(k1[c]), b = splat(k2[c]), d = splat(k3[c]);
        for (int row = 0; row < in.height; row++) {
            const V *xr = x + c * in.plane + row * in.pitch, *gr = dz + c * of.plane + row * of.pitch;
            V *out = dx + c * to.plane + row * to.pitch;
            for (int i = 0; i < in.width; i++) {
                V g = keep_where(images, gr[i] * a + (xr[i] * b + d));
                g = before_activation(g, xr[i], activation, slope);
                out[i] = add ? out[i] + g : g;
            }
        }
    }
}

INLINE V map_sum(const V *x, Map map, V minus, int squared) {
    V total = {0};
    for (int c = 0; c < map.channels; c++)
        for (int row = 0; row < map.height; row++) {
            V sum = {0};
            for (int i = 0; i < map.width; i++) {
                V value = x[c * map.plane + row * map.pitch + i] - minus;
                sum += squared ? value * value : value;
            }
            total += sum;
        }
    return total;
}

INLINE V square_root(V x) {
    V root = {0};
    for (int i = 0; i < LANES; i++) LANE(root, i) = __builtin_sqrtf(LANE(x, i));
    return root;
}

/* y = gain * (x - mean) / (std + eps) + bias over all values of an image. */
INLINE void sample_norm_forward(const V *x, Map in, V *y, Map out, const float *gain, const float *bias,
                                float eps) {
    const float count = in.channels * in.height * in.width;
    V mean = map_sum(x, in, (V){0}, 0) / count;
    V scale = gain[0] / (square_root(map_sum(x, in, mean, 1) / count) + eps);
    for (int c = 0; c < in.channels; c++)
        for (int row = 0; row < in.height; row++)
            for (int i = 0; i < in.width; i++)
                y[c * out.plane + row * out.pitch + i] =
                    (x[c * in.plane + row * in.pitch + i] - mean) * scale + bias[0];
}

/* With u = x - mean, s the deviation and q = 1 / (s + eps):
 * dx = gain * q * (g - mean(g)) - gain * q^2 * mean(g * u) / s * u. */
INLINE void sample_norm_backward(const V *x, Map in, const V *g, Map of, V *dx, Map to, const float *gain,
                                 float eps, float *gain_gradient, float *bias_gradient, int needs_input,
                                 int add_parameters, int add) {
    const float count = in.channels * in.height * in.width;
    V mean = map_sum(x, in, (V){0}, 0) / count, product = {0};
    V deviation = square_root(larger(map_sum(x, in, mean, 1) / count, splat(1.17549435e-38f)));
    V inverse = 1.0f / (deviation + eps), sum = map_sum(g, of, (V){0}, 0);
    for (int c = 0; c < in.channels; c++)
        for (int row = 0; row < in.height; row++)
            for (int i = 0; i < in.width; i++)
                product += g[c * of.plane + row * of.pitch + i] * (x[c * in.plane + row * in.pitch + i] - mean);
    gain_gradient[0] = (add_parameters ? gain_gradient[0] : 0.0f) + sum_lanes(product * inverse);
    bias_gradient[0] = (add_parameters ? bias_gradient[0] : 0.0f) + sum_lanes(sum);
    V pull = product / count / deviation * inverse;
    for (int c = 0; c < (needs_input ? in.channels : 0); c++)
        for (int row = 0; row < in.height; row++)
            for (int i = 0; i < in.width; i++) {
                V u = x[c * in.plane + row * in.pitch + i] - mean;
                V value = gain[0] * inverse * (g[c * of.plane + row * of.pitch + i] - sum / count - pull * u);
                V *target = dx + c * to.plane + row * to.pitch + i;
                *target = add ? *target + value : value;
            }
}

/* y = gain * (x - mean) / sqrt(variance + eps) + shift over groups of an image's channels; gain and
 * shift are one per channel, or NULL. */
INLINE void group_norm_forward(const V *x, Map in, V *y, Map out, const float *gain, const float *shift, int groups,
                               float eps) {
    const Map part = {in.channels / groups, in.height, in.width, in.pitch, in.plane};
    const float count = part.channels * in.height * in.width;
    for (int c = 0; c < in.channels; c += part.channels) {
        V mean = map_sum(x + c * in.plane, part, (V){0}, 0) / count;
        V inverse = 1.0f / square_root(map_sum(x + c * in.plane, part, mean, 1) / count + eps);
        for (int k = c; k < c + part.channels; k++)
            for (int row = 0; row < in.height; row++)
                for (int i = 0; i < in.width; i++) {
                    V value = (x[k * in.plane + row * in.pitch + i] - mean) * inverse;
                    y[k * out.plane + row * out.pitch + i] = gain ? value * gain[k] + shift[k] : value;
                }
    }
}

/* With z = (x - mean) * r and h = gain * g: dx = r * (h - mean(h) - z * mean(h * z)). */
INLINE void group_norm_backward(const V *x, Map in, const V *g, Map of, V *dx, Map to, const float *gain, int groups,
                                float eps, float *gain_gradient, float *shift_gradient, int needs_input,
                                int add_parameters, int add) {
    const Map part = {in.channels / groups, in.height, in.width, in.pitch, in.plane};
    const float count = part.channels * in.height * in.width;
    for (int c = 0; c < in.channels; c += part.channels) {
        V mean = map_sum(x + c * in.plane, part, (V){0}, 0) / count, sum = {0}, product = {0};
        V inverse = 1.0f / square_root(map_sum(x + c * in.plane, part, mean, 1) / count + eps);
        for (int k = c; k < c + part.channels; k++) {
            V own_sum = {0}, own_product = {0};
            for (int row = 0; row < in.height; row++)
                for (int i = 0; i < in.width; i++) {
                    V slope = g[k * of.plane + row * of.pitch + i];
                    own_sum += slope;
                    own_product += slope * ((x[k * in.plane + row * in.pitch + i] - mean) * inverse);
                }
            if (gain_gradient) {
                gain_gradient[k] = (add_parameters ? gain_gradient[k] : 0.0f) + sum_lanes(own_product);
                shift_gradient[k] = (add_parameters ? shift_gradient[k] : 0.0f) + sum_lanes(own_sum);
            }
            sum += gain ? own_sum * gain[k] : own_sum;
            product += gain ? own_product * gain[k] : own_product;
        }
        for (int k = c; k < (needs_input ? c + part.channels : c); k++)
            for (int row = 0; row < in.height; row++)
                for (int i = 0; i < in.width; i++) {
                    V z = (x[k * in.plane + row * in.pitch + i] - mean) * inverse;
                    V slope = g[k * of.plane + row * of.pitch + i];
                    V value = inverse * ((gain ? slope * gain[k] : slope) - sum / count - z * (product / count));
                    V *target = dx + k * to.plane + row * to.pitch + i;
                    *target = add ? *target + value : value;
                }
    }
}

#endif
