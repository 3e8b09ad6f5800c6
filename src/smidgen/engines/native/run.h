/* The epoch: every thread runs `train` with a share of each batch's blocks.
 *
 * A network is cut into segments at its batch norms, which need a whole batch. Going forward
 * each segment ends at a barrier; the last one turns around at the loss and goes backward at
 * once, while its values are still in the cache. */
#ifndef SMIDGEN_RUN_H
#define SMIDGEN_RUN_H

#include "augment.h"
#include "fused.h"
#include "loss.h"
#include "norm.h"
#include "pool.h"
#include "update.h"
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

/* A batch norm: the segment that its output belongs to, and where its numbers are (-1: none). */
typedef struct {
    int segment, channels, first, gamma, beta, running, positions, unbiased;
    float eps, momentum;
} Norm;

#if defined(__wasm__)
#define EXPORT(name) __attribute__((export_name(#name)))
#elif defined(_WIN32)
#define EXPORT(name) __declspec(dllexport)
#else
#define EXPORT(name) __attribute__((visibility("default")))
#endif

enum { RUNNING, STOPPED };

typedef void (*Part)(Worker *, int64_t);

/* A network as the generator prints it; `backward[segments - 1]` is part of the forward. */
typedef struct {
    int segments, num_norms, norm_channels;
    int64_t num_weights, num_statistics, stored, scratch, max_channels;
    const Part *forward, *backward;
    Part evaluate;
    const Norm *norms;
} Program;

static void wait_for_others(Job *job) {
    if (job->threads == 1) return;
    const int phase = __atomic_load_n(&job->phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&job->arrived, 1, __ATOMIC_ACQ_REL) == job->threads) {
        __atomic_store_n(&job->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&job->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int turns = 0; __atomic_load_n(&job->phase, __ATOMIC_ACQUIRE) == phase; turns++) {
#if defined(__unix__) || defined(__APPLE__)
        if (turns > 4000) sched_yield(); /* somebody else has the core of the one we wait for */
#endif
    }
}

static double *sums_of(const Job *job, const Program *p, int64_t block, int backward) {
    return job->block_sums + (2 * block + backward) * 2 * p->norm_channels;
}

/* Mean, variance and the two factors of every channel that `segment` normalizes. Every thread
 * adds the blocks' sums itself, in the order of the blocks: that is cheaper than waiting. */
static void find_statistics(Worker *w, const Program *p, int segment, int64_t blocks) {
    for (const Norm *norm = p->norms; norm < p->norms + p->num_norms; norm++) {
        const double count = (double)norm->positions * w->count;
        for (int c = norm->first; norm->segment == segment && c < norm->first + norm->channels; c++) {
            double sum = 0, squares = 0;
            for (int64_t block = 0; block < blocks; block++) {
                sum += sums_of(w->job, p, block, 0)[2 * c];
                squares += sums_of(w->job, p, block, 0)[2 * c + 1];
            }
            const double mean = sum / count, variance = squares / count - mean * mean;
            const double floor = variance > 0 || variance != variance ? variance : 0;
            const float gamma = norm->gamma < 0 ? 1.0f : w->weights[norm->gamma + c - norm->first];
            const float beta = norm->beta < 0 ? 0.0f : w->weights[norm->beta + c - norm->first];
            w->means[c] = (float)mean;
            w->variances[c] = (float)floor;
            w->scales[c] = (float)(gamma / __builtin_sqrt(floor + norm->eps));
            w->shifts[c] = (float)(beta - mean * w->scales[c]);
        }
    }
}

/* The factors of the input gradient, and the gradients of gamma and beta, which stand with
 * block 0's: with xhat = (x - mean) * r, dx = gamma * r * (dz - mean(dz) - xhat * mean(dz * xhat)). */
static void find_slopes(Worker *w, const Program *p, int segment, int64_t blocks) {
    for (const Norm *norm = p->norms; norm < p->norms + p->num_norms; norm++) {
        const double count = (double)norm->positions * w->count;
        for (int c = norm->first; norm->segment == segment && c < norm->first + norm->channels; c++) {
            double sum = 0, product = 0;
            for (int64_t block = 0; block < blocks; block++) {
                sum += sums_of(w->job, p, block, 1)[2 * c];
                product += sums_of(w->job, p, block, 1)[2 * c + 1];
            }
            const double r = 1.0 / __builtin_sqrt((double)w->variances[c] + norm->eps);
            w->k1[c] = w->scales[c];
            w->k2[c] = (float)(-w->scales[c] * r * r * product / count);
            w->k3[c] = (float)(-w->scales[c] * sum / count - (double)w->k2[c] * w->means[c]);
            if (w->thread) continue;
            if (norm->gamma >= 0) w->job->block_gradients[norm->gamma + c - norm->first] = (float)(product * r);
            if (norm->beta >= 0) w->job->block_gradients[norm->beta + c - norm->first] = (float)sum;
        }
    }
}

static void move_statistics(const Worker *w, const Program *p, Schedule now) {
    for (const Norm *norm = p->norms; norm < p->norms + p->num_norms; norm++) {
        const double count = (double)norm->positions * w->count;
        const float correction = norm->unbiased && count > 1 ? (float)(count / (count - 1)) : 1.0f;
        float *mean = w->job->statistics + norm->running, *variance = mean + norm->channels;
        for (int c = 0; c < norm->channels; c++) {
            mean[c] += norm->momentum * (w->means[norm->first + c] - mean[c]);
            variance[c] += norm->momentum * (correction * w->variances[norm->first + c] - variance[c]);
        }
    }
    if (w->job->average_statistics)
        follow(w->job->average_statistics, w->job->statistics, now.rest_decay, 0, p->num_statistics);
}

static Worker worker_of(Job *job, const Program *p, int thread) {
    float *own = job->coefficients + thread * (7 * (int64_t)p->norm_channels);
    V *scratch = (V *)job->scratch + thread * (p->scratch + 4 * p->max_channels);
    Worker w = {.job = job, .thread = thread, .stored = (V *)job->stored, .weights = job->weights};
    float **parts[7] = {&w.means, &w.variances, &w.scales, &w.shifts, &w.k1, &w.k2, &w.k3};
    for (int i = 0; i < 7; i++) *parts[i] = own + i * p->norm_channels;
    w.scratch = scratch;
    w.totals = (VD *)(scratch + p->scratch);
    return w;
}

/* Runs a part for the thread's blocks. Every other part walks them backwards, and so begins with
 * those that the part before it has left in the cache. */
static void run_part(Worker *w, Part part, int64_t blocks, int backwards) {
    const int64_t threads = w->job->threads;
    const int64_t from = blocks * w->thread / threads, to = blocks * (w->thread + 1) / threads;
    for (int64_t i = from; i < to; i++) part(w, backwards ? from + to - 1 - i : i);
}

static void take_gradients(Worker *w, const Program *p, int64_t blocks) {
    for (int segment = 0; segment < p->segments; segment++) {
        run_part(w, p->forward[segment], blocks, segment & 1);
        if (segment + 1 == p->segments) break;
        wait_for_others(w->job);
        find_statistics(w, p, segment + 1, blocks);
    }
    for (int segment = p->segments - 2; segment >= 0; segment--) {
        wait_for_others(w->job);
        find_slopes(w, p, segment + 1, blocks);
        run_part(w, p->backward[segment], blocks, segment & 1);
    }
    wait_for_others(w->job);
}

/* One batch; returns 0, with everything as it was before, if a number was not finite. */
static int train_step(Worker *w, const Program *p) {
    Job *job = w->job;
    const int64_t blocks = (w->count + LANES - 1) / LANES;
    const int64_t from = p->num_weights * w->thread / job->threads;
    const int64_t to = p->num_weights * (w->thread + 1) / job->threads;
    double loss = 0, correct = 0;
    take_gradients(w, p, blocks);
    for (int64_t block = 0; block < blocks; block++) {
        loss += job->block_losses[2 * block];
        correct += job->block_losses[2 * block + 1];
    }
    if (!gather_gradient(job, from, to, blocks, p->num_weights) || loss - loss != 0)
        __atomic_store_n(&job->broken, 1, __ATOMIC_RELAXED);
    wait_for_others(job);
    if (__atomic_load_n(&job->broken, __ATOMIC_RELAXED)) return 0;
    if (job->updates) update(job, job->schedule[w->step], from, to);
    if (w->thread == 0) {
        if (job->updates) move_statistics(w, p, job->schedule[w->step]);
        job->loss += loss;
        job->num_correct += (int64_t)correct;
        job->steps_done = w->step + 1;
    }
    return 1;
}

static void train(Job *job, const Program *p, int thread) {
    Worker w = worker_of(job, p, thread);
    for (int64_t step = job->first_step; step < job->num_steps; step++) {
        if (thread == 0) job->ending = __atomic_load_n(&job->stop, __ATOMIC_RELAXED) ? STOPPED : RUNNING;
        wait_for_others(job);
        if (job->ending != RUNNING) return;
        const int64_t left = job->num_images - step * job->batch_size;
        w.step = (int)step;
        w.first = step * job->batch_size;
        w.count = left < job->batch_size ? left : job->batch_size;
        if (!train_step(&w, p)) return;
    }
}

static void evaluate(Job *job, const Program *p, int thread) {
    Worker w = worker_of(job, p, thread);
    w.count = job->num_images;
    run_part(&w, p->evaluate, (w.count + LANES - 1) / LANES, 0);
}

#endif
