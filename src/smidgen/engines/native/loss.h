/* Cross-entropy of the softmax of the class scores, beside it the divergence from teachers'
 * answers, and the gradient. */
#ifndef SMIDGEN_LOSS_H
#define SMIDGEN_LOSS_H

#include "worker.h"

/* Mixes into a block's losses and d loss / d scores the teachers' share of T^2 KL(q || p): p is
 * softmax(scores / T), q the teachers' targets. Its gradient is T (p - q). Never inlined, so that
 * training without teachers has the code it had. */
static __attribute__((noinline)) void toward_teachers(const Worker *w, int64_t block, const V *scores, V *gradient,
                                                      V *loss, int classes) {
    const Job *job = w->job;
    const VI images = images_of(w, block);
    const float share = job->teachers_share, temperature = job->temperature;
    V largest = scores[0], sum = {0}, divergence = {0};
    for (int k = 1; k < classes; k++) largest = choose(scores[k] > largest, scores[k], largest);
    for (int k = 0; k < classes; k++) sum += exponential((scores[k] - largest) / temperature);
    const V log_sum = logarithm(sum);
    for (int k = 0; k < classes; k++) {
        V target = {0};
        for (int i = 0; i < LANES; i++)
            if (LANE(images, i)) LANE(target, i) = job->targets[(w->first + block * LANES + i) * classes + k];
        const V log_answer = (scores[k] - largest) / temperature - log_sum;
        const V log_target = logarithm(larger(target, splat(1e-30f))); /* 0 log 0 counts as 0 */
        divergence += target * (log_target - log_answer);
        const V pull = keep_where(images, exponential(log_answer) - target) * (temperature / (float)w->count);
        gradient[k] = (1.0f - share) * gradient[k] + share * pull;
    }
    *loss = (1.0f - share) * *loss + share * temperature * temperature * divergence;
}

/* Writes d loss / d scores for the mean over the batch; leaves the block's sum of losses and
 * its number of right answers (the first of equal scores is the answer). */
INLINE void cross_entropy(const Worker *w, int64_t block, const V *scores, V *gradient, int classes) {
    const Job *job = w->job;
    const VI images = images_of(w, block);
    VI label = {0}, answer = {0};
    for (int i = 0; i < LANES; i++)
        if (LANE(images, i)) LANE(label, i) = job->labels[job->order[w->first + block * LANES + i]];
    V largest = scores[0], sum = {0}, own = {0}, all = {0};
    for (int k = 1; k < classes; k++) {
        VI wins = scores[k] > largest;
        largest = choose(wins, scores[k], largest);
        answer = choose_whole(wins, k + (VI){0}, answer);
    }
    for (int k = 0; k < classes; k++) {
        V shifted = scores[k] - largest;
        gradient[k] = exponential(shifted);
        sum += gradient[k];
        all += shifted;
        own += keep_where(label == k, shifted);
    }
    const float spread = job->label_smoothing / classes, kept = 1.0f - job->label_smoothing;
    V loss = logarithm(sum) - kept * own - spread * all;
    for (int k = 0; k < classes; k++) {
        V target = keep_where(label == k, splat(kept)) + spread;
        gradient[k] = keep_where(images, (gradient[k] / sum - target) / (float)w->count);
    }
    if (job->targets) toward_teachers(w, block, scores, gradient, &loss, classes);
    double *out = job->block_losses + 2 * block;
    out[0] = sum_lanes_wide(widen(keep_where(images, loss)));
    out[1] = 0;
    for (int i = 0; i < LANES; i++) out[1] += LANE(images, i) && LANE(label, i) == LANE(answer, i);
}

/* The scores of a block's images as rows of classes. */
INLINE void store_scores(const Worker *w, int64_t block, const V *scores, int classes) {
    for (int i = 0; i < LANES && block * LANES + i < w->count; i++)
        for (int k = 0; k < classes; k++)
            w->job->scores[(w->first + block * LANES + i) * classes + k] = LANE(scores[k], i);
}

#endif
