/* What Python hands over for an epoch or an evaluation, and what each thread knows.
 * `Job` is mirrored field by field by `job.py`. */
#ifndef SMIDGEN_JOB_H
#define SMIDGEN_JOB_H

#include "vectors.h"

/* What is scheduled for one update. What is near 1 comes with its distance from 1, computed in
 * double: 1 - 0.999f is wrong by 5e-5. Adam's bias corrections are computed beforehand, too. */
typedef struct {
    float lr, momentum, rest_momentum, correction, root_correction, rest_decay;
} Schedule;

typedef struct {
    /* data and the plan's arrays; NULL where nothing is changed */
    const uint8_t *images;
    const int32_t *labels, *order;
    const float *affine, *elastic, *jitter;
    const int32_t *boxes;
    const float *targets; /* rows of classes, in the plan's order; NULL without teachers */
    const Schedule *schedule;
    /* the model's state, flat, in the network's order */
    float *weights, *statistics, *gradient, *first_moment, *second_moment;
    float *average_weights, *average_statistics;
    /* working memory: per block of a batch, then per thread */
    float *stored, *block_gradients;
    double *block_sums, *block_losses;
    float *scratch, *coefficients;
    float *scores;
    /* sizes and settings */
    int64_t num_images, batch_size, first_step, num_steps;
    float mean, inverse_std, fill, level, label_smoothing, teachers_share, temperature;
    float weight_decay, beta2, rest_beta2, eps;
    int32_t nearest, optimizer, nesterov, updates, threads;
    uint32_t dropout_key;
    /* shared between threads, and results */
    int32_t stop, arrived, phase, ending, broken;
    int64_t steps_done, num_correct;
    double loss;
} Job;

enum { SGD, ADAM, ADAMW };
enum { RUNNING, STOPPED };

typedef struct {
    Job *job;
    V *stored, *scratch;
    VD *totals;
    /* of each normalized channel: forward y = scale * x + shift, backward k1 * dz + k2 * x + k3 */
    float *means, *variances, *scales, *shifts, *k1, *k2, *k3;
    const float *weights;
    int64_t first, count;
    int step, thread;
} Worker;

/* All ones in the lanes of a block that hold an image; the batch's last block may be partial. */
INLINE VI images_of(const Worker *w, int64_t block) {
    VI mask;
    for (int i = 0; i < LANES; i++) mask[i] = block * LANES + i < w->count ? -1 : 0;
    return mask;
}

#endif
