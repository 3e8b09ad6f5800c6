/* The small form: one loop runs all stages; what differs between them stands in NAME_stages.
   What is the same in all of them is written out below. */

/* The dot product of a window (y, x: its first cell) and weights, `run` channels of each cell. */
NAME_COMPACT static int32_t NAME_dot(const NAME_stage *s, const uint8_t *map, int sign,
                                     const int8_t *w, int y, int x, int run) {
    int32_t sum = 0;
    int i, j, k;
    (void)s;
    for (i = 0; i < @kernel_y; i++)
        for (j = 0; j < @kernel_x; j++) {
            const uint8_t *p = map + ((y + i) * @width + x + j) * @channels;
            const int inside = !@padded || (y + i >= 0 && y + i < @height && x + j >= 0 &&
                                            x + j < @width);
            for (k = 0; k < run; k++, w++) {
                const int byte = inside ? p[k] : sign ? 0 : NAME_PAD_BYTE;
                sum += (int32_t)((byte ^ sign) - sign) * NAME_READ8(w);
            }
        }
    return sum;
}

NAME_COMPACT NAME_API int NAME_classify(const uint8_t image[], int32_t scores[]) {
    const NAME_stage *place = NAME_stages;
    const int8_t *next = NAME_weights;
    const int16_t *numbers = NAME_numbers;
    const NAME_factor *factors = NAME_factors;
    int best = 0, number;
    @@all_halves
    for (number = 0; number < NAME_CLASSES; number++) scores[number] = 0;
    for (number = 0; number < NAME_NUM_STAGES; number++, place++) {
        const NAME_stage *s = NAME_STAGE(place);
        /* one stage */
        const uint8_t *map = @from == NAME_IMAGE ? image : NAME_arena + @from;
        const int sign = @from == NAME_IMAGE ? 0 : 0x80;
        const int8_t *depthwise = next, *w = next;
        const int16_t *v = numbers;
        const NAME_factor *f = factors;
        int row, column, o, c, i, j;
        uint8_t *out = NAME_arena + @to;
        if (@separable) depthwise = next, next += @channels * @kernel_y * @kernel_x;
        for (row = 0; row < @rows; row++)
            for (column = 0; column < @columns; column++, out += @pixel) {
                const int y = row * @pool_step_y - @pool_before_y;
                const int x = column * @pool_step_x - @pool_before_x;
                int16_t gathered[NAME_GATHERED], *g = gathered;
                if (@separable)
                    for (i = 0; i < @pool_y; i++)
                        for (j = 0; j < @pool_x; j++) {
                            w = depthwise;
                            for (c = 0; c < @channels; c++, w += @kernel_y * @kernel_x)
                                *g++ = (int16_t)(
                                    (NAME_dot(s, map + c, sign, w, (y + i) * @step - @before_y,
                                              (x + j) * @step - @before_x, 1) +
                                     @@start) >> @depthwise_shift);
                        }
                w = next, v = numbers, f = factors, g = gathered;
                for (o = 0; o < @outputs; o++) {
                    int32_t pooled = @largest ? -0x7fffffff : 0;
                    g = gathered;
                    for (i = 0; i < @pool_y; i++)
                        for (j = 0; j < @pool_x; j++) {
                            int32_t a = 0, t;
                            if (@pool_padded && (y + i < 0 || y + i >= @positions_y || x + j < 0 ||
                                                 x + j >= @positions_x))
                                continue;
                            if (@separable)
                                for (c = 0; c < @channels; c++)
                                    a += (int32_t)*g++ * NAME_READ8(w + c);
                            else if (@sum)
                                for (c = 0; c < 2; c++)
                                    a += (int32_t)(int8_t)NAME_arena[(c ? @second : @from) + o +
                                             ((y + i) * @width + x + j) * @channels] *
                                         NAME_READ8(w + c);
                            else
                                a = NAME_dot(s, @each ? map + o : map, sign, w,
                                             (y + i) * @step - @before_y,
                                             (x + j) * @step - @before_x, @each ? 1 : @channels);
                            a = (a >> @shift_a) + NAME_READ16(v);
                            t = NAME_READ_FACTOR(f);
                            if (a < 0) t = @linear ? t : @relu ? 0 : NAME_READ16(v + 1);
                            t = (a * t) >> NAME_READ_FACTOR(f + 1);
                            if (@offset) t += NAME_READ16(v + @numbers - 1);
                            if (!@largest) pooled += t;
                            else if (t > pooled) pooled = t;
                        }
                    w += @taps, v += @numbers, f += 2;
                    if (@last) {
                        scores[o] += pooled;
                    } else {
                        pooled = (pooled + (1 << @last_shift >> 1)) >> @last_shift;
                        if (pooled > 127) pooled = 127;
                        if (pooled < -127) pooled = -127;
                        out[o] = (uint8_t)pooled;
                    }
                }
            }
        next = w, numbers = v, factors = f;
        @@next_halves
        /* end */
    }
    for (number = 1; number < NAME_CLASSES; number++)
        if (scores[number] > scores[best]) best = number;
    return best;
}
