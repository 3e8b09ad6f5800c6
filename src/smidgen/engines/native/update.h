/* Optimizers and the moving average, with PyTorch's arithmetic, on flat arrays. */
#ifndef SMIDGEN_UPDATE_H
#define SMIDGEN_UPDATE_H

#include "worker.h"

/* The gradient of the weights from..to: the blocks' parts in the order of the blocks, so the
 * sum does not depend on which thread computed which. Returns whether all are finite. */
INLINE int gather_gradient(const Job *job, int64_t from, int64_t to, int64_t blocks, int64_t stride) {
    float *g = job->gradient, excess = 0;
    for (int64_t i = from; i < to; i++) g[i] = job->block_gradients[i];
    for (int64_t block = 1; block < blocks; block++) {
        const float *part = job->block_gradients + block * stride;
        for (int64_t i = from; i < to; i++) g[i] += part[i];
    }
    for (int64_t i = from; i < to; i++) excess += g[i] - g[i]; /* NaN unless all are finite */
    return excess == 0;
}

INLINE void sgd(const Job *job, Schedule now, int64_t from, int64_t to) {
    float *restrict w = job->weights, *restrict moment = job->first_moment;
    const float *restrict gradient = job->gradient;
    for (int64_t i = from; i < to; i++) {
        const float g = gradient[i] + job->weight_decay * w[i];
        const float m = now.momentum != 0 ? now.momentum * moment[i] + g : moment[i];
        moment[i] = m;
        w[i] -= now.lr * (now.momentum == 0 ? g : job->nesterov ? g + now.momentum * m : m);
    }
}

/* `correction` is 1 - beta1^t and `root_correction` the root of 1 - beta2^t. */
INLINE void adam(const Job *job, Schedule now, int64_t from, int64_t to) {
    float *restrict w = job->weights, *restrict first = job->first_moment, *restrict second = job->second_moment;
    const float *restrict gradient = job->gradient;
    const float decoupled = job->optimizer == ADAMW ? job->weight_decay : 0;
    const float added = job->optimizer == ADAM ? job->weight_decay : 0;
    const float step = now.lr / now.correction, keep = 1.0f - now.lr * decoupled;
    for (int64_t i = from; i < to; i++) {
        const float g = gradient[i] + added * w[i];
        first[i] += now.rest_momentum * (g - first[i]);
        second[i] = job->beta2 * second[i] + job->rest_beta2 * g * g;
        w[i] = keep * w[i] - step * first[i] / (__builtin_sqrtf(second[i]) / now.root_correction + job->eps);
    }
}

INLINE void follow(float *average, const float *values, float share, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) average[i] += share * (values[i] - average[i]);
}

INLINE void update(const Job *job, Schedule now, int64_t from, int64_t to) {
    if (job->optimizer == SGD)
        sgd(job, now, from, to);
    else
        adam(job, now, from, to);
    if (job->average_weights) follow(job->average_weights, job->weights, now.rest_decay, from, to);
}

#endif
