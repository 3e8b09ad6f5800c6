/* From bytes to the network's input: move, change, erase and normalize each image by its row of
 * the plan. Every image is done alone, as plain rows of floats, and then goes into its lane. */
#ifndef SMIDGEN_AUGMENT_H
#define SMIDGEN_AUGMENT_H

#include "worker.h"

enum { GRID = 7 }; /* rows and columns of an elastic displacement grid */

/* How far an elastic grid (7x7, corners on corner pixels, bilinear between) moves a pixel. */
INLINE float bend(const float *grid, float x, float y) {
    const int column = x < GRID - 2 ? (int)x : GRID - 2, line = y < GRID - 2 ? (int)y : GRID - 2;
    const float *cell = grid + line * GRID + column;
    const float fx = x - column, fy = y - line;
    const float above = cell[0] + fx * (cell[1] - cell[0]);
    const float below = cell[GRID] + fx * (cell[GRID + 1] - cell[GRID]);
    return above + fy * (below - above);
}

/* Reads the image at (u, v); `bordered` has one cell of fill before and two behind each row and
 * column, so after clamping every neighbor exists and truncation is rounding down. */
INLINE float sample(const float *bordered, int height, int width, float u, float v, int nearest) {
    const int pitch = width + 3;
    u = u > -1.0f ? u < width ? u : width : -1.0f; /* so that NaN becomes -1 */
    v = v > -1.0f ? v < height ? v : height : -1.0f;
    if (nearest) return bordered[((int)__builtin_rintf(v) + 1) * pitch + (int)__builtin_rintf(u) + 1];
    u += 1.0f;
    v += 1.0f;
    const int column = (int)u, line = (int)v;
    const float *cell = bordered + line * pitch + column;
    const float fx = u - column, fy = v - line;
    const float above = cell[0] + fx * (cell[1] - cell[0]);
    const float below = cell[pitch] + fx * (cell[pitch + 1] - cell[pitch]);
    return above + fy * (below - above);
}

INLINE void move_plane(const Job *job, int64_t row, const float *bordered, float *out, int height, int width) {
    const float *a = job->affine + 6 * row;
    const float *grid = job->elastic ? job->elastic + 2 * GRID * GRID * row : 0;
    const float step_x = (GRID - 1.0f) / (width - 1), step_y = (GRID - 1.0f) / (height - 1);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            float u = a[0] * x + a[1] * y + a[2], v = a[3] * x + a[4] * y + a[5];
            if (grid) {
                u += bend(grid, x * step_x, y * step_y);
                v += bend(grid + GRID * GRID, x * step_x, y * step_y);
            }
            out[y * width + x] = sample(bordered, height, width, u, v, job->nearest);
        }
    }
}

INLINE float clip(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }

/* Brightness, then contrast about the image's mean. */
INLINE void change_levels(const float *factors, float *pixels, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        pixels[i] = clip(pixels[i] * factors[0]);
        sum += pixels[i];
    }
    const float mean = (float)(sum / count);
    for (int i = 0; i < count; i++) pixels[i] = clip(mean + factors[1] * (pixels[i] - mean));
}

INLINE void erase_box(const int32_t *box, float level, float *pixels, int channels, int height, int width) {
    for (int c = 0; c < channels; c++)
        for (int y = box[0]; y < box[0] + box[2]; y++)
            for (int x = box[1]; x < box[1] + box[3]; x++) pixels[(c * height + y) * width + x] = level;
}

/* One image of the plan, at `row`, as grey levels from 0 to 1. */
INLINE void prepare_image(const Job *job, int64_t row, float *pixels, float *bordered, int channels, int height,
                          int width) {
    const int64_t which = job->order ? job->order[row] : row;
    const uint8_t *bytes = job->images + which * channels * height * width;
    const int pitch = width + 3;
    if (!job->affine) {
        for (int i = 0; i < channels * height * width; i++) pixels[i] = bytes[i] * (1.0f / 255.0f);
    } else {
        for (int i = 0; i < (height + 3) * pitch; i++) bordered[i] = job->fill;
        for (int c = 0; c < channels; c++) {
            const uint8_t *plane = bytes + c * height * width;
            for (int y = 0; y < height; y++)
                for (int x = 0; x < width; x++)
                    bordered[(y + 1) * pitch + x + 1] = plane[y * width + x] * (1.0f / 255.0f);
            move_plane(job, row, bordered, pixels + c * height * width, height, width);
        }
    }
    if (job->jitter) change_levels(job->jitter + 2 * row, pixels, channels * height * width);
    if (job->boxes) erase_box(job->boxes + 4 * row, job->level, pixels, channels, height, width);
}

/* A block of the batch, normalized; lanes without an image are zero. */
INLINE void load_images(const Worker *w, int64_t block, V *x, Map map) {
    const Job *job = w->job;
    float pixels[map.channels * map.height * map.width], bordered[(map.height + 3) * (map.width + 3)];
    for (int lane = 0; lane < LANES; lane++) {
        const int64_t place = block * LANES + lane;
        const int present = place < w->count;
        if (present)
            prepare_image(job, w->first + place, pixels, bordered, map.channels, map.height, map.width);
        for (int c = 0; c < map.channels; c++)
            for (int y = 0; y < map.height; y++) {
                const float *row = pixels + (c * map.height + y) * map.width;
                float *to = (float *)(x + c * map.plane + y * map.pitch) + lane;
                for (int i = 0; i < map.width; i++)
                    to[i * LANES] = present ? (row[i] - job->mean) * job->inverse_std : 0.0f;
            }
    }
}

/* A batch as the network sees it, image by image, into `scores`. */
INLINE void prepare_batch(const Job *job, int64_t step, int channels, int height, int width) {
    const int64_t size = channels * height * width, first = step * job->batch_size;
    float bordered[(height + 3) * (width + 3)];
    for (int64_t row = first; row < first + job->batch_size && row < job->num_images; row++) {
        float *pixels = job->scores + (row - first) * size;
        prepare_image(job, row, pixels, bordered, channels, height, width);
        for (int64_t i = 0; i < size; i++) pixels[i] = (pixels[i] - job->mean) * job->inverse_std;
    }
}

#endif
