"""Stages as kernel calls: forward, for training and for evaluation, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from smidgen.lowering.operands import (
    Activation,
    Area,
    Buffer,
    Call,
    Coefficient,
    Finish,
    Gradient,
    Operand,
    Part,
    Place,
    Steps,
    Sums,
    Tensor,
    flat_map,
)
from smidgen.lowering.segments import Segments
from smidgen.lowering.stages import (
    Convolve,
    Join,
    NormalizeGroups,
    NormalizeImage,
    Pointwise,
    Pool,
    Stage,
    Stages,
)
from smidgen.network.shapes import MAP

NameOf = Callable[[Stage, str], str]
"""The full name of the tensor that a stage has in a role, such as `conv1.weight`."""


def trained_name(stage: Stage, role: str) -> str:
    """Return the name of a stage's tensor in training."""
    return cast(str, getattr(stage, role))


def whole(buffer: Buffer) -> Place:
    """Return all of a buffer, as the map that it holds."""
    return Place(buffer, buffer.area)


@dataclass(frozen=True, slots=True)
class Forward:
    """Turns stages into calls.

    Args:
        stages: All of them, with the shapes of their values.
        name_of: What their tensors are called.
        training: Whether batch norms need sums and dropouts drop.
    """

    stages: Stages
    name_of: NameOf
    training: bool

    def value(self, number: int) -> Buffer:
        """Return the buffer that holds a value."""
        area = Area(self.stages.shapes[number], self.stages.halo(number))
        return Buffer(f"value{number + 1}", area, is_value=True)

    def source(self, stage: Stage, buffer: Buffer | None = None) -> Place:
        """Return a stage's first input, or a buffer of its gradient, as the stage sees it."""
        buffer = buffer or self.value(stage.inputs[0])
        shape = stage.node.input_shape
        is_flat = len(shape) != MAP and not any(buffer.area.halo)
        return Place(buffer, Area(shape)) if is_flat else whole(buffer)

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
            case NormalizeGroups():
                part = [self._normalize_groups(stage, out)]
            case _:
                raise AssertionError(f"no kernel for {stage}")
        if takes_sums:
            part += self.sums(stage.output, isinstance(stage, Convolve))
        return clear_border(out) + part

    def norms_of(self, value: int) -> list[Pointwise]:
        """Return the batch norms that read a value and need its sums."""
        readers = self.stages.readers(value) if self.training else []
        return [s for s in readers if isinstance(s, Pointwise) and s.norm is not None]

    def tensor(self, stage: Stage, role: str) -> Tensor:
        """Return the numbers that a stage has in a role."""
        return Tensor(self.name_of(stage, role))

    def scale_and_shift(self, stage: Pointwise) -> dict[str, Operand]:
        """Return a norm's numbers: of the batch in training, folded in evaluation."""
        if stage.norm is None:
            return {"scale": None, "shift": None}
        if not self.training:
            return {role: self.tensor(stage, role) for role in ("scale", "shift")}
        name = stage.norm.name
        return {"scale": Coefficient(name, "scale"), "shift": Coefficient(name, "shift")}

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
            to = Sums(stage.norm.name, "forward")
            if were_taken:
                operands: dict[str, Operand] = {"channels": x.area.shape[0], "sums": to}
                part.append(Call("fold_sums", operands, stage.node.name, "norm"))
            else:
                operands = {"x": whole(x), "sums": to}
                part.append(Call("norm_sums", operands, stage.node.name, "norm"))
        return part

    def _convolve(self, stage: Convolve, out: Buffer, takes_sums: bool) -> Call:
        has_bias = stage.bias is not None or not self.training
        x, y = as_rows(stage, self.source(stage), whole(out))
        operands: dict[str, Operand] = {
            "x": x,
            "weight": self.tensor(stage, "weight"),
            "bias": self.tensor(stage, "bias") if has_bias else None,
            "y": y,
            "window": stage.window,
            "groups": stage.groups,
            "finish": Finish(
                has_bias,
                stage.activation,
                takes_sums and bool(self.norms_of(stage.output)),
                stage.slope,
            ),
        }
        return Call("conv_forward", operands, stage.node.name, "forward", self.num_macs(stage))

    def num_macs(self, stage: Convolve) -> int:
        """Return a convolution's multiply-accumulates for one image."""
        channels, height, width = flat_map(self.stages.shapes[stage.output])
        inputs = flat_map(self.source(stage).area.shape)[0] // stage.groups
        return channels * height * width * inputs * stage.window.kernel[0] * stage.window.kernel[1]

    def _pointwise(self, stage: Pointwise, out: Buffer) -> Call:
        x = self.value(stage.inputs[0])
        area = out.area if stage.pool else unflattened(out.area, x.area)
        operands: dict[str, Operand] = {
            "x": whole(x),
            "y": Place(out, area),
            "steps": steps_of(stage),
            **self.scale_and_shift(stage),
            "slopes": self.tensor(stage, "slopes") if stage.slopes is not None else None,
        }
        kind = "pointwise" if stage.norm is None else "norm"
        if stage.pool is None:
            return Call("pointwise_forward", operands, stage.node.name, kind)
        operands["window"] = stage.pool
        return Call("pointwise_pool_forward", operands, stage.node.name, kind)

    def _pool(self, stage: Pool, out: Buffer) -> Call:
        x = self.value(stage.inputs[0])
        operands: dict[str, Operand] = {"x": whole(x), "y": whole(out), "window": stage.window}
        if stage.kind == "average":
            operands["counts_padding"] = stage.counts_padding
        return Call(f"{stage.kind}_pool_forward", operands, stage.node.name, "pool")

    def _join(self, stage: Join, out: Buffer) -> Part:
        part, offset = [], 0
        for position, number in enumerate(stage.inputs):
            x = self.value(number)
            own = Area(x.area.shape, out.area.halo)
            operands: dict[str, Operand] = {
                "x": whole(x),
                "y": Place(out, own, offset),
                "add": stage.kind == "add" and position > 0,
            }
            part.append(Call("copy_map", operands, stage.node.name, "pointwise"))
            if stage.kind == "concat":
                offset += x.area.shape[0] * out.area.plane
        return part

    def _normalize_image(self, stage: NormalizeImage, out: Buffer) -> Call:
        operands: dict[str, Operand] = {
            "x": whole(self.value(stage.inputs[0])),
            "y": whole(out),
            "gain": self.tensor(stage, "gain"),
            "shift": self.tensor(stage, "shift"),
            "eps": stage.eps,
        }
        return Call("sample_norm_forward", operands, stage.node.name, "norm")

    def _normalize_groups(self, stage: NormalizeGroups, out: Buffer) -> Call:
        operands: dict[str, Operand] = {
            "x": whole(self.value(stage.inputs[0])),
            "y": whole(out),
            "gain": self.tensor(stage, "gain") if stage.gain else None,
            "shift": self.tensor(stage, "shift") if stage.shift else None,
            "groups": stage.groups,
            "eps": stage.eps,
        }
        return Call("group_norm_forward", operands, stage.node.name, "norm")


@dataclass(slots=True)
class Backward:
    """Turns stages into calls, from the loss to the input; remembers what has a gradient.

    Args:
        segments: The stages and what is stored.
        forward: How the forward pass sees them.
    """

    segments: Segments
    forward: Forward
    started: set[str] = field(default_factory=set)
    """Gradients that exist: the first contribution sets them, later ones are added."""

    def segment(self, number: int) -> Part:
        """Return the backward pass of a segment, without what it has to compute again."""
        part: Part = []
        for following in self.segments.parts[number + 1 : number + 2]:
            for stage in reversed(following):
                if isinstance(stage, Pointwise) and stage.norm is not None:
                    part += self._through_norm(stage)
        for stage in reversed(self.segments.parts[number]):
            if stage.output in self.segments.learned:
                part += self._stage(stage)
        return part

    def gradient(self, value: int) -> Buffer:
        """Return the buffer of the loss's gradient with respect to a value."""
        return Buffer(f"gradient{value + 1}", Area(self.forward.stages.shapes[value]))

    def _stage(self, stage: Stage) -> Part:
        """Return what passes a stage's gradient on to its inputs and parameters."""
        match stage:
            case Convolve():
                return self._convolve(stage)
            case Pointwise():
                return self._pointwise(stage)
            case Pool():
                return self._pool(stage)
            case Join():
                return self._join(stage)
            case NormalizeImage():
                return self._normalize_image(stage)
            case NormalizeGroups():
                return self._normalize_groups(stage)
        raise AssertionError(f"no kernel for {stage}")

    def adds(self, name: str) -> bool:
        """Tell whether something has been put there before, and note that it is now."""
        known = name in self.started
        self.started.add(name)
        return known

    def _needs(self, value: int) -> bool:
        """Tell whether anybody wants the gradient of a value."""
        return value in self.segments.learned

    def _through_norm(self, stage: Pointwise) -> Part:
        assert stage.norm is not None
        value, name = stage.inputs[0], stage.norm.name
        if not self._needs(value):
            return []
        dx = self.gradient(value)
        maker = self.segments.stages.maker(value)
        activation: Activation = "NO_ACTIVATION"
        slope = 0.0
        if isinstance(maker, Convolve) and self._is_undone_by_norm(maker):
            activation, slope = maker.activation, maker.slope
        operands: dict[str, Operand] = {
            "x": whole(self.forward.value(value)),
            "dz": whole(self._before_norm(stage)),
            "dx": whole(dx),
            "k1": Coefficient(name, "k1"),
            "k2": Coefficient(name, "k2"),
            "k3": Coefficient(name, "k3"),
            "activation": activation,
            "slope": slope,
            "add": self.adds(dx.name),
        }
        return [Call("norm_backward", operands, stage.node.name, "norm")]

    def _before_norm(self, stage: Pointwise) -> Buffer:
        """Return the buffer of the gradient between a batch norm and its activation."""
        shape = self.forward.stages.shapes[stage.inputs[0]]
        return Buffer(f"dz{stage.output + 1}", Area(shape))

    def _is_undone_by_norm(self, stage: Convolve) -> bool:
        """Tell whether the batch norm behind undoes the convolution's activation, too."""
        readers = self.segments.stages.readers(stage.output)
        return len(readers) == 1 and len(self.forward.norms_of(stage.output)) == 1

    def _convolve(self, stage: Convolve) -> Part:
        y, dy = self.forward.value(stage.output), self.gradient(stage.output)
        part: Part = []
        if stage.activation != "NO_ACTIVATION" and not self._is_undone_by_norm(stage):
            undone: dict[str, Operand] = {
                "y": whole(y),
                "dy": whole(dy),
                "activation": stage.activation,
                "slope": stage.slope,
            }
            part.append(Call("activation_backward", undone, stage.node.name, "pointwise"))
        part.append(self._weight_gradient(stage, dy))
        if stage.bias is not None:
            bias: dict[str, Operand] = {
                "dy": whole(dy),
                "bias": Gradient(stage.bias),
                "add": self.adds(stage.bias),
            }
            part.append(Call("bias_gradient", bias, stage.node.name, "weight gradient"))
        if self._needs(stage.inputs[0]):
            part.append(self._input_gradient(stage, dy))
        return part

    def _weight_gradient(self, stage: Convolve, dy: Buffer) -> Call:
        x, rows = as_rows(stage, self.forward.source(stage), whole(dy))
        operands: dict[str, Operand] = {
            "x": x,
            "dy": rows,
            "window": stage.window,
            "groups": stage.groups,
            "weight": Gradient(stage.weight),
            "add": self.adds(stage.weight),
        }
        macs = self.forward.num_macs(stage)
        return Call("conv_weight_gradient", operands, stage.node.name, "weight gradient", macs)

    def _input_gradient(self, stage: Convolve, dy: Buffer) -> Call:
        maker = self.segments.stages.maker(stage.inputs[0])
        if isinstance(maker, Pointwise) and self._follower(maker) is stage:
            return self._input_gradient_to_norm(stage, maker, dy)
        dx = self.gradient(stage.inputs[0])
        to, rows = as_rows(stage, self.forward.source(stage, dx), whole(dy))
        operands: dict[str, Operand] = {
            "dy": rows,
            "weight": self.forward.tensor(stage, "weight"),
            "dx": to,
            "window": stage.window,
            "groups": stage.groups,
            "add": self.adds(dx.name),
        }
        macs = self.forward.num_macs(stage)
        return Call("conv_input_gradient", operands, stage.node.name, "input gradient", macs)

    def _input_gradient_to_norm(self, stage: Convolve, norm: Pointwise, dy: Buffer) -> Call:
        assert norm.norm is not None
        operands: dict[str, Operand] = {
            "dy": whole(dy),
            "weight": self.forward.tensor(stage, "weight"),
            "x": whole(self.forward.value(norm.inputs[0])),
            "dz": whole(self._before_norm(norm)),
            "window": stage.window,
            "groups": stage.groups,
            "steps": steps_of(norm),
            **self.forward.scale_and_shift(norm),
            "mean": Coefficient(norm.norm.name, "mean"),
            "sums": Sums(norm.norm.name, "backward"),
        }
        macs = self.forward.num_macs(stage)
        return Call("conv_input_norm_gradient", operands, stage.node.name, "input gradient", macs)

    def _pointwise(self, stage: Pointwise) -> Part:
        if self._follower(stage) is not None:
            return []
        value, norm = stage.inputs[0], stage.norm
        x, dy = self.forward.value(value), self.gradient(stage.output)
        dx = self.gradient(value) if norm is None else self._before_norm(stage)
        flat = unflattened(dy.area, Area(x.area.shape))
        operands: dict[str, Operand] = {
            # without norm and activation the input's values do not matter, and may be gone
            "x": whole(x) if stage.needs_input else Place(dy, flat),
            "dy": Place(dy, dy.area if stage.pool else flat),
            "dz": whole(dx),
            "steps": steps_of(stage),
            **self.forward.scale_and_shift(stage),
            "mean": None if norm is None else Coefficient(norm.name, "mean"),
            "sums": None if norm is None else Sums(norm.name, "backward"),
            "slopes": None,
            "slope_gradient": None,
            "add_slopes": False,
        }
        if stage.slopes is not None:
            operands["slopes"] = self.forward.tensor(stage, "slopes")
            operands["slope_gradient"] = Gradient(stage.slopes)
            operands["add_slopes"] = self.adds(stage.slopes)
        kind = "pointwise" if norm is None else "norm"
        if stage.pool is None:
            operands["add"] = self.adds(dx.name)
            return [Call("pointwise_backward", operands, stage.node.name, kind)]
        operands["window"] = stage.pool
        return [Call("pointwise_pool_backward", operands, stage.node.name, kind)]

    def _follower(self, stage: Pointwise) -> Convolve | None:
        """Return the convolution whose input gradient also does the stage's backward pass."""
        readers = self.segments.stages.readers(stage.output)
        if stage.norm is None or stage.pool is not None or stage.slopes is not None:
            return None
        if len(readers) != 1 or not isinstance(readers[0], Convolve) or stage.rank > 3:
            return None
        return readers[0]

    def _pool(self, stage: Pool) -> Part:
        dy, dx = self.gradient(stage.output), self.gradient(stage.inputs[0])
        operands: dict[str, Operand] = {
            "dy": whole(dy),
            "dx": whole(dx),
            "window": stage.window,
            "add": self.adds(dx.name),
        }
        if stage.kind == "max":
            operands["x"] = whole(self.forward.value(stage.inputs[0]))
        else:
            operands["counts_padding"] = stage.counts_padding
        return [Call(f"{stage.kind}_pool_backward", operands, stage.node.name, "pool")]

    def _join(self, stage: Join) -> Part:
        dy, part, offset = self.gradient(stage.output), [], 0
        for number in stage.inputs:
            dx = self.gradient(number)
            if self._needs(number):
                # the kernel copies as many channels as the source's map says
                own = Area((dx.area.shape[0], *dy.area.shape[1:]))
                operands: dict[str, Operand] = {
                    "x": Place(dy, own, offset),
                    "y": whole(dx),
                    "add": self.adds(dx.name),
                }
                part.append(Call("copy_map", operands, stage.node.name, "pointwise"))
            offset += dx.area.size if stage.kind == "concat" else 0
        return part

    def _normalize_image(self, stage: NormalizeImage) -> Part:
        value = stage.inputs[0]
        dx = self.gradient(value)
        needs = self._needs(value)
        operands: dict[str, Operand] = {
            "x": whole(self.forward.value(value)),
            "dy": whole(self.gradient(stage.output)),
            "dx": whole(dx) if needs else None,
            "gain": self.forward.tensor(stage, "gain"),
            "eps": stage.eps,
            "gain_gradient": Gradient(stage.gain),
            "shift_gradient": Gradient(stage.shift),
            "needs_input": needs,
            "add_parameters": self.adds(stage.gain),
            "add": self.adds(dx.name) if needs else False,
        }
        return [Call("sample_norm_backward", operands, stage.node.name, "norm")]

    def _normalize_groups(self, stage: NormalizeGroups) -> Part:
        value = stage.inputs[0]
        dx = self.gradient(value)
        needs = self._needs(value)
        operands: dict[str, Operand] = {
            "x": whole(self.forward.value(value)),
            "dy": whole(self.gradient(stage.output)),
            "dx": whole(dx) if needs else None,
            "gain": self.forward.tensor(stage, "gain") if stage.gain else None,
            "groups": stage.groups,
            "eps": stage.eps,
            "gain_gradient": Gradient(stage.gain) if stage.gain else None,
            "shift_gradient": Gradient(stage.shift) if stage.shift else None,
            "needs_input": needs,
            "add_parameters": self.adds(stage.gain) if stage.gain else False,
            "add": self.adds(dx.name) if needs else False,
        }
        return [Call("group_norm_backward", operands, stage.node.name, "norm")]


def clear_border(buffer: Buffer) -> Part:
    """Return what zeroes a buffer's border, if it has one."""
    if not any(buffer.area.halo):
        return []
    sides = dict(zip(("top", "left", "bottom", "right"), buffer.area.halo, strict=True))
    return [Call("clear_border", {"x": whole(buffer), **sides}, kind="pointwise")]


def as_rows(stage: Convolve, x: Place, out: Place) -> tuple[Place, Place]:
    """Return input and output as the convolution shall see them.

    A 1x1 convolution of maps without borders sees each as one long row, so that its tiles need
    not divide the width.
    """
    is_pointwise = stage.window.kernel == (1, 1) and stage.window.stride == (1, 1)
    sides = (*stage.window.before, *stage.window.after, *x.area.halo, *out.area.halo)
    if is_pointwise and not any(sides):
        return Place(x.buffer, x.area.as_row()), Place(out.buffer, out.area.as_row())
    return x, out


def unflattened(out: Area, x: Area) -> Area:
    """Return the output of a pass that ends in a flattening in the shape of its input."""
    return Area(x.shape) if out.shape != x.shape else out


def steps_of(stage: Pointwise) -> Steps:
    """Return what a pass does to each value."""
    return Steps(
        has_norm=stage.norm is not None,
        activation=stage.activation,
        has_slopes=stage.slopes is not None,
        shares_slope=stage.shares_slope,
        slope=stage.slope,
        factor=float(stage.factor),
        threshold=stage.threshold,
        drops_channels=stage.drops_channels,
        dropout=stage.dropout,
    )
