"""The forward pass of a stage as kernel calls, for training and for evaluation."""

from dataclasses import dataclass
from typing import Protocol

from smidgen.engines.native.calls import Area, At, Buffer, Call, Part, show_float, show_window
from smidgen.engines.native.layout import EvaluationLayout, Layout
from smidgen.engines.native.stages import (
    Convolve,
    Join,
    NormalizeImage,
    Pointwise,
    Pool,
    Stage,
    Stages,
    flat_map,
)
from smidgen.engines.native.tiles import Tile, row_tile

NONE = "0"


class Numbers(Protocol):
    """C text for where a stage's numbers are; roles as in `EvaluationLayout`."""

    def place(self, stage: Stage, role: str) -> str:
        """Return a pointer to the first number."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingNumbers:
    """Weights where the optimizer keeps them; scale and shift from the batch."""

    layout: Layout

    def place(self, stage: Stage, role: str) -> str:
        """Return a pointer to the first number."""
        if isinstance(stage, Pointwise) and role in ("scale", "shift"):
            assert stage.norm is not None
            return f"w->{role}s + {stage.norm.first}"
        return f"w->weights + {self.layout.weights[parameter_name(stage, role)]}"


@dataclass(frozen=True, slots=True)
class EvaluationNumbers:
    """Folded weights, scale and shift, one after the other."""

    layout: EvaluationLayout

    def place(self, stage: Stage, role: str) -> str:
        """Return a pointer to the first number."""
        return f"w->weights + {self.layout.offsets[stage.output][role]}"


@dataclass(frozen=True, slots=True)
class Forward:
    """Turns stages into calls.

    Args:
        stages: All of them, with the shapes of their values.
        numbers: Where weights are.
        lanes: Images side by side.
        training: Whether batch norms need sums and dropouts drop.
    """

    stages: Stages
    numbers: Numbers
    lanes: int
    training: bool

    def value(self, number: int) -> Buffer:
        """Return the buffer that holds a value."""
        area = Area(self.stages.shapes[number], self.stages.halo(number))
        return Buffer(f"value{number + 1}", area, is_value=True)

    def input_area(self, stage: Stage) -> Area:
        """Return how the first input lies in memory."""
        return self.value(stage.inputs[0]).area

    def calls(self, stage: Stage, takes_sums: bool) -> Part:
        """Return what computes a stage's output, and the sums that its batch norms need."""
        out = self.value(stage.output)
        match stage:
            case Convolve():
                part = [self._convolve(stage, out, takes_sums)]
            case Pointwise():
                part = [self._pointwise(stage, out)]
            case Pool():
                part = [self._pool(stage, out)]
            case Join():
                part = self._join(stage, out)
            case NormalizeImage():
                part = [self._normalize_image(stage, out)]
            case _:
                raise AssertionError(f"no kernel for {stage}")
        if takes_sums:
            part += self.sums(stage.output, isinstance(stage, Convolve))
        return clear_border(out) + part

    def norms_of(self, value: int) -> list[Pointwise]:
        """Return the batch norms that read a value and need its sums."""
        readers = self.stages.readers(value) if self.training else []
        return [s for s in readers if isinstance(s, Pointwise) and s.norm is not None]

    def _convolve(self, stage: Convolve, out: Buffer, takes_sums: bool) -> Call:
        x = self.value(stage.inputs[0])
        in_area, out_area = map_pair(stage, x.area, out.area)
        channels, _, width = flat_map(out_area.shape)
        columns, step = stage.window.kernel[1], stage.window.stride[1]
        tile = row_tile(channels // stage.groups, width, columns, step, self.lanes)
        has_bias = stage.bias is not None or not self.training
        sums = int(takes_sums and bool(self.norms_of(stage.output)))
        finish = (
            f"(Finish){{{int(has_bias)}, {stage.activation}, {sums}, {show_float(stage.slope)}}}"
        )
        return Call(
            "conv_forward",
            (
                At(x),
                str(in_area),
                self.numbers.place(stage, "weight"),
                self.numbers.place(stage, "bias") if has_bias else "w->weights",
                At(out),
                str(out_area),
                show_window(stage.window),
                str(stage.groups),
                str(Tile(outputs=tile[0], columns=tile[1])),
                finish,
                "w->totals",
                "images",
            ),
            what=stage.node.name,
            kind="forward",
            num_macs=num_macs(stage, self.stages),
        )

    def _pointwise(self, stage: Pointwise, out: Buffer) -> Call:
        x = self.value(stage.inputs[0])
        has_norm = stage.norm is not None
        return Call(
            "pointwise_forward" if stage.pool is None else "pointwise_pool_forward",
            (
                At(x),
                str(x.area),
                At(out),
                str(out.area if stage.pool else unflattened(out.area, x.area)),
                show_pointwise(stage),
                *([] if stage.pool is None else [show_window(stage.pool)]),
                self.numbers.place(stage, "scale") if has_norm else NONE,
                self.numbers.place(stage, "shift") if has_norm else NONE,
                NONE if stage.slopes is None else self.numbers.place(stage, "slopes"),
                dropout_rows(stage),
            ),
            what=stage.node.name,
            kind="norm" if has_norm else "pointwise",
        )

    def _pool(self, stage: Pool, out: Buffer) -> Call:
        x = self.value(stage.inputs[0])
        arguments = (At(x), str(x.area), At(out), str(out.area), show_window(stage.window))
        if stage.kind == "average":
            arguments += (str(int(stage.counts_padding)),)
        return Call(f"{stage.kind}_pool_forward", arguments, what=stage.node.name, kind="pool")

    def _join(self, stage: Join, out: Buffer) -> Part:
        part, offset = [], 0
        for position, number in enumerate(stage.inputs):
            x = self.value(number)
            add = int(stage.kind == "add" and position > 0)
            arguments = (At(x), str(x.area), At(out, offset), str(out.area), str(add))
            part.append(Call("copy_map", arguments, what=stage.node.name, kind="pointwise"))
            if stage.kind == "concat":
                offset += x.area.shape[0] * out.area.plane
        return part

    def _normalize_image(self, stage: NormalizeImage, out: Buffer) -> Call:
        x = self.value(stage.inputs[0])
        arguments = (
            At(x),
            str(x.area),
            At(out),
            str(out.area),
            self.numbers.place(stage, "gain"),
            self.numbers.place(stage, "shift"),
            show_float(stage.eps),
        )
        return Call("sample_norm_forward", arguments, what=stage.node.name, kind="norm")

    def sums(self, value: int, were_taken: bool) -> Part:
        """Return what reduces a value over the block for the batch norms that read it.

        Args:
            value: Which value.
            were_taken: Whether the convolution that made it left sums behind.
        """
        x = self.value(value)
        part = []
        for stage in self.norms_of(value):
            assert stage.norm is not None
            to = f"sums + {2 * stage.norm.first}"
            if were_taken:
                arguments = ("w->totals", str(x.area.shape[0]), to)
                part.append(Call("fold_sums", arguments, stage.node.name, "norm"))
            else:
                arguments = (At(x), str(x.area), "images", to)
                part.append(Call("norm_sums", arguments, stage.node.name, "norm"))
        return part


def clear_border(buffer: Buffer) -> Part:
    """Return what zeroes a buffer's border, if it has one."""
    if not any(buffer.area.halo):
        return []
    sides = tuple(map(str, buffer.area.halo))
    return [Call("clear_border", (At(buffer), str(buffer.area), *sides), kind="pointwise")]


def map_pair(stage: Convolve, x: Area, out: Area) -> tuple[Area, Area]:
    """Return input and output as the convolution shall see them.

    A 1x1 convolution of maps without borders sees each as one long row, so that its tiles need
    not divide the width.
    """
    is_pointwise = stage.window.kernel == (1, 1) and stage.window.stride == (1, 1)
    if is_pointwise and not any((*stage.window.before, *stage.window.after, *x.halo, *out.halo)):
        return x.as_row(), out.as_row()
    return x, out


def unflattened(out: Area, x: Area) -> Area:
    """Return the output of a pass that ends in a flattening in the shape of its input."""
    return Area(x.shape) if out.shape != x.shape else out


def show_pointwise(stage: Pointwise) -> str:
    """Return the C header's `Pointwise`."""
    numbers = (
        str(int(stage.norm is not None)),
        stage.activation,
        str(int(stage.slopes is not None)),
        show_float(stage.slope),
        show_float(float(stage.factor)),
        str(stage.threshold),
    )
    return f"(Pointwise){{{', '.join(numbers)}}}"


def dropout_rows(stage: Pointwise) -> str:
    """Return what the stage's dropout mixes with each element's number."""
    return f"dropout_keys(w, block, {stage.dropout})" if stage.threshold else "(VU){0}"


def parameter_name(stage: Stage, role: str) -> str:
    """Return the full name of the tensor in a stage's role."""
    match stage:
        case Convolve():
            return stage.weight if role == "weight" else stage.bias or ""
        case Pointwise():
            return stage.slopes or ""
        case _:
            return stage.parameters[role != "gain"]


def num_macs(stage: Convolve, stages: Stages) -> int:
    """Return a convolution's multiply-accumulates for one image."""
    channels, height, width = flat_map(stages.shapes[stage.output])
    inputs = flat_map(stages.shapes[stage.inputs[0]])[0] // stage.groups
    return channels * height * width * inputs * stage.window.kernel[0] * stage.window.kernel[1]


def channel_numbers(stage: Pointwise) -> tuple[str, str, str]:
    """Return C for a norm's scale, shift and mean of each channel."""
    if stage.norm is None:
        return (NONE, NONE, NONE)
    first = stage.norm.first
    return (f"w->scales + {first}", f"w->shifts + {first}", f"w->means + {first}")


def input_tile(stage: Convolve, area: Area, lanes: int) -> str:
    """Return the tile of the input gradient; its columns are a multiple of the stride."""
    channels, _, width = flat_map(area.shape)
    columns, step = stage.window.kernel[1], stage.window.stride[1]
    tile = row_tile(channels // stage.groups, width, columns, 1, lanes, multiple=step)
    return str(Tile(inputs=tile[0], columns=tile[1]))
