/* What each thread knows while it runs, and which lanes of a block hold an image. */
#ifndef SMIDGEN_WORKER_H
#define SMIDGEN_WORKER_H

#include "job.h"
#include "vectors.h"

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
    VI mask = {0};
    for (int i = 0; i < LANES; i++) LANE(mask, i) = block * LANES + i < w->count ? -1 : 0;
    return mask;
}

#endif
