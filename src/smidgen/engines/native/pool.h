/* Pooling; the global kinds are windows as large as the map. */
#ifndef SMIDGEN_POOL_H
#define SMIDGEN_POOL_H

#include "vectors.h"

/* The cells of one output that lie inside the input; the others are skipped. */
typedef struct {
    int y0, y1, x0, x1;
} Cells;

INLINE Cells cells_of(Map in, Window k, int oy, int ox) {
    const int y = oy * k.step_y - k.top, x = ox * k.step_x - k.left;
    Cells cells = {y, y + k.rows, x, x + k.columns};
    if (k.top && y < 0) cells.y0 = 0;
    if (k.left && x < 0) cells.x0 = 0;
    if (cells.y1 > in.height) cells.y1 = in.height;
    if (cells.x1 > in.width) cells.x1 = in.width;
    return cells;
}

INLINE V largest_of(const V *plane, int pitch, Cells cells) {
    V largest = plane[cells.y0 * pitch + cells.x0];
    for (int y = cells.y0; y < cells.y1; y++)
        for (int x = cells.x0; x < cells.x1; x++) {
            V value = plane[y * pitch + x];
            largest = choose(value <= largest, largest, value);
        }
    return largest;
}

INLINE void max_pool_forward(const V *x, Map in, V *y, Map out, Window k) {
    for (int c = 0; c < in.channels; c++)
        for (int oy = 0; oy < out.height; oy++)
            for (int ox = 0; ox < out.width; ox++)
                y[c * out.plane + oy * out.pitch + ox] =
                    largest_of(x + c * in.plane, in.pitch, cells_of(in, k, oy, ox));
}

/* The first of equal cells gets the gradient, as in PyTorch. */
INLINE void max_pool_backward(const V *x, Map in, const V *g, Map out, V *dx, Map to, Window k, int add) {
    if (!add) clear_map(dx, to);
    for (int c = 0; c < in.channels; c++)
        for (int oy = 0; oy < out.height; oy++)
            for (int ox = 0; ox < out.width; ox++) {
                const V *plane = x + c * in.plane;
                const Cells cells = cells_of(in, k, oy, ox);
                V largest = largest_of(plane, in.pitch, cells), left = g[c * out.plane + oy * out.pitch + ox];
                for (int row = cells.y0; row < cells.y1; row++)
                    for (int i = cells.x0; i < cells.x1; i++) {
                        VI wins = plane[row * in.pitch + i] == largest;
                        dx[c * to.plane + row * to.pitch + i] += keep_where(wins, left);
                        left = keep_unless(wins, left);
                    }
            }
}

/* Padded cells count as zeros, or not at all. */
INLINE float share_of(Window k, Cells cells, int counts_padding) {
    return 1.0f / (counts_padding ? k.rows * k.columns : (cells.y1 - cells.y0) * (cells.x1 - cells.x0));
}

INLINE void average_pool_forward(const V *x, Map in, V *y, Map out, Window k, int counts_padding) {
    for (int c = 0; c < in.channels; c++)
        for (int oy = 0; oy < out.height; oy++)
            for (int ox = 0; ox < out.width; ox++) {
                const Cells cells = cells_of(in, k, oy, ox);
                V sum = {0};
                for (int row = cells.y0; row < cells.y1; row++)
                    for (int i = cells.x0; i < cells.x1; i++) sum += x[c * in.plane + row * in.pitch + i];
                y[c * out.plane + oy * out.pitch + ox] = sum * share_of(k, cells, counts_padding);
            }
}

INLINE void average_pool_backward(const V *g, Map out, V *dx, Map to, Window k, int counts_padding, int add) {
    if (!add) clear_map(dx, to);
    for (int c = 0; c < to.channels; c++)
        for (int oy = 0; oy < out.height; oy++)
            for (int ox = 0; ox < out.width; ox++) {
                const Cells cells = cells_of(to, k, oy, ox);
                V value = g[c * out.plane + oy * out.pitch + ox] * share_of(k, cells, counts_padding);
                for (int row = cells.y0; row < cells.y1; row++)
                    for (int i = cells.x0; i < cells.x1; i++) dx[c * to.plane + row * to.pitch + i] += value;
            }
}

#endif
