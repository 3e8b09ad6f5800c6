"""The fast form of the C header: every stage written out, four outputs at a time."""

import re
from collections.abc import Mapping, Sequence

from smidgen.ship.c_text import array_text, resource, with_halves
from smidgen.ship.integer import Stage

_OUTPUTS = 4
"""Outputs that share what is loaded; four sums, a value and a weight fill eight registers."""
_MOST_STRAIGHT = 16
"""Windows of at most so many taps are written out tap by tap."""

Fields = Mapping[str, int]


def fast_text(stages: Sequence[Stage], rows: Sequence[Fields]) -> str:
    """Print all stages and the function that runs them.

    Args:
        stages: The network's.
        rows: What the kernels must know of each (`stage_fields`).
    """
    parts = [resource("fast.h")]
    for number, (stage, row) in enumerate(zip(stages, rows, strict=True)):
        parts.append(_Printer(number, stage, row).text())
    calls = "\n".join(f"    NAME_stage{number}(image, scores);" for number in range(len(stages)))
    parts.append(
        "NAME_API int NAME_classify(const uint8_t image[], int32_t scores[]) {\n"
        "    int best = 0, number;\n"
        "    for (number = 0; number < NAME_CLASSES; number++) scores[number] = 0;\n"
        f"{calls}\n"
        "    for (number = 1; number < NAME_CLASSES; number++)\n"
        "        if (scores[number] > scores[best]) best = number;\n"
        "    return best;\n}\n"
    )
    return "\n".join(parts)


class _Printer:
    def __init__(self, number: int, stage: Stage, row: Fields) -> None:
        self.number, self.stage, self.row = number, stage, row
        self.lines: list[str] = []

    def text(self) -> str:
        row = self.row
        if row["each"] or row["sum"] or row["pool_padded"] or row["offset"]:
            return self.plain_text()
        if row["padded"] and not row["separable"]:
            return self.plain_text()
        tables = [self.weights_text(), self.records_text()]
        return "\n".join([*tables, *self.depthwise_text(), *self.stage_text()])

    def plain_text(self) -> str:
        """Print a stage that is rare by the small form's loop, with its own sizes."""
        n, stage, row = self.number, self.stage, self.row
        own = list(stage.depthwise.weights) if stage.depthwise else []
        starts = list(stage.depthwise.bias) if stage.depthwise else []
        source = with_halves(resource("small.c"), not starts, f"NAME_starts{n}")
        dot = source[source.index("/* The dot product") : source.index("NAME_COMPACT NAME_API")]
        start, end = source.index("/* one stage */"), source.index("/* end */")
        body = re.sub(r"^    ", "", source[start:end], flags=re.MULTILINE)
        numbers, factors = [], []
        for channel in range(stage.out_channels):
            numbers.append(stage.bias[channel])
            numbers += [stage.negative[channel]] if not (row["linear"] or row["relu"]) else []
            numbers += [stage.offset[channel]] if stage.offset else []
            factors += [stage.positive[channel], stage.shift[channel]]
        text = "\n".join(
            [
                array_text("int8_t", f"NAME_weights{n}", [*own, *stage.weights]),
                array_text("int16_t", f"NAME_numbers{n}", numbers),
                array_text("int16_t", f"NAME_factors{n}", factors),
                *([array_text("int32_t", f"NAME_starts{n}", starts)] if starts else []),
                dot.replace("const NAME_stage *s, ", "").replace("    (void)s;\n", ""),
                f"static void NAME_stage{n}(const uint8_t image[], int32_t scores[]) {{",
                f"    const int8_t *next = NAME_weights{n};",
                f"    const int16_t *numbers = NAME_numbers{n};",
                f"    const int16_t *factors = NAME_factors{n};",
                *([f"    const int32_t *start = NAME_starts{n};"] if starts else []),
                "    " + body.rstrip(),
                "    (void)next, (void)numbers, (void)factors, (void)image, (void)scores;",
                "}",
                "",
            ]
        )
        text = text.replace("NAME_dot(s, ", "NAME_dot(").replace("NAME_dot", f"NAME_dot{n}")
        text = text.replace("const NAME_factor *f", "const int16_t *f")
        return re.sub(r"@(\w+)", lambda match: str(row[match[1]]), text)

    def runs(self) -> list[list[int]]:
        """Return the taps of a window as offsets from its first cell, row by row, or as one run."""
        row = self.row
        if row["separable"]:
            return [list(range(row["channels"]))]
        width = row["kernel_x"] * row["channels"]
        rows = [
            [y * row["width"] * row["channels"] + x for x in range(width)]
            for y in range(row["kernel_y"])
        ]
        straight = row["kernel_y"] * width <= _MOST_STRAIGHT
        return [[tap for run in rows for tap in run]] if straight else rows

    def groups(self) -> list[int]:
        outputs = self.row["outputs"]
        whole, rest = divmod(outputs, _OUTPUTS)
        return [_OUTPUTS] * whole + ([rest] if rest else [])

    def weights_text(self) -> str:
        """Print the weights in the order that the blocks read them."""
        stage, taps = self.stage, self.row["taps"]
        rows = [stage.weights[o * taps : (o + 1) * taps] for o in range(stage.out_channels)]
        order = (0, 2, 1, 3) if self.row["separable"] else (0, 1, 2, 3)
        numbers: list[int] = []
        first = 0
        for group in self.groups():
            members = rows[first : first + group]
            first += group
            at = 0
            for run in self.runs():
                quads = len(run) // 4
                for quad in range(quads):
                    base = at + 4 * quad
                    numbers += [row[base + step] for row in members for step in order]
                for tap in range(at + 4 * quads, at + len(run)):
                    numbers += [row[tap] for row in members]
                at += len(run)
        return array_text("int8_t", f"NAME_weights{self.number}", numbers)

    def records_text(self) -> str:
        stage = self.stage
        numbers: list[int] = []
        for o in range(stage.out_channels):
            numbers += [stage.positive[o], stage.negative[o], stage.bias[o], stage.shift[o]]
        return array_text("int32_t", f"NAME_records{self.number}", numbers)

    def depthwise_text(self) -> list[str]:
        stage, row, n = self.stage, self.row, self.number
        part = stage.depthwise
        if part is None:
            return []
        spatial = row["kernel_y"] * row["kernel_x"]
        half = 1 << part.shift >> 1
        is_half = all(bias == half for bias in part.bias)
        kind = "uint8_t" if row["image"] else "int8_t"
        lines = [array_text("int8_t", f"NAME_depthwise{n}", part.weights)]
        if not is_half:
            lines.append(array_text("int32_t", f"NAME_halves{n}", part.bias))
        start = str(half) if is_half else f"NAME_halves{n}[c]"
        taps = [
            f"        NAME_STEP(a, p[{(y * row['width'] + x) * row['channels']}], w, "
            f"{y * row['kernel_x'] + x})"
            for y in range(row["kernel_y"])
            for x in range(row["kernel_x"])
        ]
        lines += [
            f"static inline void NAME_gather{n}(NAME_wide *d, const {kind} *p) {{",
            f"    const int8_t *w = NAME_depthwise{n};",
            "    int c;",
            f"    for (c = 0; c < {row['channels']}; c++, p++, w += {spatial}) {{",
            f"        int32_t a = {start};",
            *taps,
            f"        *d++ = (NAME_wide)(a >> {part.shift});",
            "    }",
            "}",
        ]
        if row["padded"]:
            lines += self.edge_text(start, kind)
        return lines

    def edge_text(self, start: str, kind: str) -> list[str]:
        """Print the gathering of a window that reaches beyond the map."""
        row, n = self.row, self.number
        pad = "NAME_PAD_BYTE" if row["image"] else "0"
        width, channels = row["width"], row["channels"]
        taps = row["kernel_y"] * row["kernel_x"]
        shift = self.stage.depthwise.shift if self.stage.depthwise else 0
        outside = f"a += {pad} * w[i * {row['kernel_x']} + j];" if row["image"] else ""
        test = f"(unsigned)(y + i) < {row['height']}u && (unsigned)(x + j) < {width}u"
        cell = f"p[((y + i) * {width} + x + j) * {channels}]"
        inside = f"a += {cell} * w[i * {row['kernel_x']} + j];"
        if row["image"]:
            loop = [
                f"        for (i = 0; i < {row['kernel_y']}; i++)",
                f"            for (j = 0; j < {row['kernel_x']}; j++) {{",
                f"                if ({test}) {inside}",
                f"                else {outside}",
                "            }",
            ]
        else:
            loop = [
                "        for (i = top; i < bottom; i++) {",
                f"            const {kind} *line = p + ((y + i) * {width} + x) * {channels};",
                f"            const int8_t *v = w + i * {row['kernel_x']};",
                f"            for (j = left; j < right; j++) a += line[j * {channels}] * v[j];",
                "        }",
            ]
        limits = [
            "    const int top = y < 0 ? -y : 0, left = x < 0 ? -x : 0;",
            f"    const int bottom = y + {row['kernel_y']} > {row['height']} ? {row['height']} - y"
            f" : {row['kernel_y']};",
            f"    const int right = x + {row['kernel_x']} > {width} ? {width} - x"
            f" : {row['kernel_x']};",
        ]
        return [
            f"static void NAME_edge{n}(NAME_wide *d, const {kind} *p, int y, int x) {{",
            f"    const int8_t *w = NAME_depthwise{n};",
            *([] if row["image"] else limits),
            "    int c, i, j;",
            f"    for (c = 0; c < {channels}; c++, p++, w += {taps}) {{",
            f"        int32_t a = {start};",
            *loop,
            f"        *d++ = (NAME_wide)(a >> {shift});",
            "    }",
            "}",
        ]

    def stage_text(self) -> list[str]:
        row, n = self.row, self.number
        step_y, step_x = (row[f"pool_step_{axis}"] * row["step"] for axis in "yx")
        kind = "uint8_t" if row["image"] else "int8_t"
        source = "image" if row["image"] else f"(const int8_t *)NAME_arena + {row['from']}"
        lines = [f"static void NAME_stage{n}(const uint8_t image[], int32_t scores[]) {{"]
        lines.append(f"    const {kind} *map = {source};")
        if not row["last"]:
            lines.append(f"    int8_t *out = (int8_t *)NAME_arena + {row['to']};")
        lines += ["    int row, column, o, i, j;"]
        if row["separable"]:
            cells = row["pool_y"] * row["pool_x"]
            lines.append(f"    NAME_wide gathered[{row['channels'] * cells}];")
        pixel = "" if row["last"] else f", out += {row['pixel']}"
        lines += [
            f"    for (row = 0; row < {row['rows']}; row++)",
            f"        for (column = 0; column < {row['columns']}; column++{pixel}) {{",
        ]
        body: list[str] = []
        body.append(f"const int8_t *w = NAME_weights{n};")
        body.append(f"const int32_t *q = NAME_records{n};")
        if row["separable"]:
            body.append("const NAME_wide *p = gathered;")
            body += self.gather_lines()
        else:
            body.append(
                f"const {kind} *p = map + (row * {step_y} * {row['width']} + column * {step_x}) * "
                f"{row['channels']};"
            )
        whole, rest = divmod(row["outputs"], _OUTPUTS)
        if whole > 1:
            body.append(f"for (o = 0; o < {_OUTPUTS * whole}; o += {_OUTPUTS}) {{")
            body += ["    " + line for line in self.block(_OUTPUTS)]
            body.append("}")
        elif whole:
            body += ["o = 0;", "{", *("    " + line for line in self.block(_OUTPUTS)), "}"]
        if rest:
            body += [
                f"o = {_OUTPUTS * whole};",
                "{",
                *("    " + line for line in self.block(rest)),
                "}",
            ]
        lines += ["            " + line for line in body]
        lines += ["        }", "    (void)image, (void)scores, (void)i, (void)j;", "}", ""]
        return lines

    def gather_lines(self) -> list[str]:
        """Print the depthwise results of all cells of a pool."""
        row, n = self.row, self.number
        pooled = row["pool_y"] * row["pool_x"] > 1
        width, channels, step = row["width"], row["channels"], row["step"]
        y = f"(row * {row['pool_step_y']} + i)" if pooled else "row"
        x = f"(column * {row['pool_step_x']} + j)" if pooled else "column"
        target = f"gathered + (i * {row['pool_x']} + j) * {channels}" if pooled else "gathered"
        y = y if step == 1 else f"{y} * {step}"
        x = x if step == 1 else f"{x} * {step}"
        if row["before_y"] or row["before_x"]:
            y, x = f"{y} - {row['before_y']}", f"{x} - {row['before_x']}"
        lines = [f"const int y = {y}, x = {x};"]
        call = f"NAME_gather{n}({target}, map + (y * {width} + x) * {channels});"
        if row["padded"]:
            lines += [
                f"if (y >= 0 && y + {row['kernel_y']} <= {row['height']} && x >= 0 && "
                f"x + {row['kernel_x']} <= {width})",
                f"    {call}",
                "else",
                f"    NAME_edge{n}({target}, map, y, x);",
            ]
        else:
            lines.append(call)
        if not pooled:
            return ["{", *("    " + line for line in lines), "}"]
        return [
            f"for (i = 0; i < {row['pool_y']}; i++)",
            f"    for (j = 0; j < {row['pool_x']}; j++) {{",
            *("        " + line for line in lines),
            "    }",
        ]

    def block(self, count: int) -> list[str]:
        """Print `count` outputs of one place: sums, activation, pool, and the writing."""
        row = self.row
        cells = row["pool_y"] * row["pool_x"]
        names = range(count)
        lines: list[str] = []
        if cells > 1:
            start = "-0x7fffffff" if row["largest"] else "0"
            lines.append(f"int32_t {', '.join(f't{r} = {start}' for r in names)};")
            lines.append(f"for (i = 0; i < {row['pool_y']}; i++)")
            lines.append(f"    for (j = 0; j < {row['pool_x']}; j++) {{")
            lines += ["        " + line for line in self.cell(count, "i", "j")]
            lines.append("    }")
        else:
            lines += self.cell(count, "", "")
        for r in names:
            value = f"t{r}"
            if row["last"]:
                lines.append(f"scores[o + {r}] += {value};")
            else:
                lines.append(f"out[o + {r}] = NAME_clamped({value}, {row['last_shift']});")
        lines.append(f"w += {row['taps'] * count}, q += {4 * count};")
        return lines

    def cell(self, count: int, i: str, j: str) -> list[str]:
        """Print the sums of one cell and what the activation makes of them."""
        row = self.row
        names = range(count)
        lines = [f"int32_t {', '.join(f'a{r} = 0' for r in names)};"]
        channels = row["channels"]
        if not i:
            base = "p"
        elif row["separable"]:
            base = f"p + (i * {row['pool_x']} + j) * {channels}"
        else:
            base = f"p + (i * {row['width']} + j) * {row['step'] * channels}"
        kind = "WIDES" if row["separable"] else "PIXELS" if row["image"] else "CELLS"
        pointer = "NAME_wide" if row["separable"] else "uint8_t" if row["image"] else "int8_t"
        lines += [f"const {pointer} *x = {base};", "const int8_t *v = w;", "NAME_HERE(v)"]
        runs = self.runs()
        straight = len(runs) == 1 and len(runs[0]) <= _MOST_STRAIGHT
        if straight:
            lines += self.straight(runs[0], count, kind)
        elif len(runs) == 1:
            lines += self.run_loop(len(runs[0]), count, kind)
        else:
            skip = row["width"] * channels - len(runs[0])
            lines += [
                "int k;",
                f"for (k = 0; k < {len(runs)}; k++, x += {skip}) {{",
                *("    " + line for line in self.run_loop(len(runs[0]), count, kind)),
                "}",
            ]
        function = "rectified" if row["relu"] else "activated"
        for r in names:
            made = f"NAME_{function}(a{r}, {row['shift_a']}, q + {4 * r})"
            if not i:
                lines.append(f"const int32_t t{r} = {made};")
            elif row["largest"]:
                lines.append(f"a{r} = {made};")
                lines.append(f"if (a{r} > t{r}) t{r} = a{r};")
            else:
                lines.append(f"t{r} += {made};")
        return lines

    def straight(self, taps: Sequence[int], count: int, kind: str) -> list[str]:
        lines, at = [], 0
        for first in range(0, len(taps) - 3, 4):
            four = taps[first : first + 4]
            if four[3] - four[0] == 3:
                what = f"NAME_{kind}(x + {four[0]})"
            else:
                what = f"NAME_APART({', '.join(f'x[{tap}]' for tap in four)})"
            lines.append(f"NAME_QUAD{count}({what}, v, {at})")
            at += 4 * count
        for tap in taps[len(taps) // 4 * 4 :]:
            lines.append(f"NAME_TAP{count}(x[{tap}], v, {at}, 1)")
            at += count
        return lines

    def run_loop(self, length: int, count: int, kind: str) -> list[str]:
        quads, rest = divmod(length, 4)
        lines = []
        if quads:
            lines += [
                f"const int8_t *end = v + {4 * quads * count};",
                f"for (; v < end; x += 4, v += {4 * count}) NAME_QUAD{count}(NAME_{kind}(x), v, 0)",
            ]
        lines += [f"NAME_TAP{count}(x[{k}], v, {k * count}, 1)" for k in range(rest)]
        if rest:
            lines.append(f"x += {rest}, v += {rest * count};")
        return lines
