"""The backward pass of a segment as kernel calls."""

from dataclasses import dataclass, field

from smidgen.engines.native.calls import Area, At, Buffer, Call, Part, show_float, show_window
from smidgen.engines.native.forward import (
    NONE,
    Forward,
    channel_numbers,
    dropout_rows,
    input_tile,
    map_pair,
    num_macs,
    parameter_name,
    show_pointwise,
    unflattened,
)
from smidgen.engines.native.layout import Layout
from smidgen.engines.native.segments import Segments
from smidgen.engines.native.stages import (
    Convolve,
    Join,
    NormalizeImage,
    Pointwise,
    Pool,
    Stage,
    flat_map,
)
from smidgen.engines.native.tiles import weight_tile


@dataclass(slots=True)
class Backward:
    """Turns stages into calls, from the loss to the input; remembers what has a gradient.

    Args:
        segments: The stages and what is stored.
        forward: How the forward pass sees them.
        layout: Where the weights, and so their gradients, stand.
    """

    segments: Segments
    forward: Forward
    layout: Layout
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
        raise AssertionError(f"no kernel for {stage}")

    def _adds(self, name: str) -> str:
        """Return C for whether something has been put there before, and note that it is now."""
        known = name in self.started
        self.started.add(name)
        return str(int(known))

    def _needs(self, value: int) -> bool:
        """Tell whether anybody wants the gradient of a value."""
        return value in self.segments.learned

    def _through_norm(self, stage: Pointwise) -> Part:
        assert stage.norm is not None
        value = stage.inputs[0]
        if not self._needs(value):
            return []
        x, dz, dx = self.forward.value(value), self._before_norm(stage), self.gradient(value)
        first = stage.norm.first
        maker = self.segments.stages.maker(value)
        activation, slope = "NO_ACTIVATION", 0.0
        if isinstance(maker, Convolve) and self._is_undone_by_norm(maker):
            activation, slope = maker.activation, maker.slope
        arguments = (
            At(x),
            str(x.area),
            At(dz),
            str(dz.area),
            At(dx),
            str(dx.area),
            *(f"w->{factor} + {first}" for factor in ("k1", "k2", "k3")),
            activation,
            show_float(slope),
            "images",
            self._adds(dx.name),
        )
        return [Call("norm_backward", arguments, what=stage.node.name, kind="norm")]

    def _before_norm(self, stage: Pointwise) -> Buffer:
        """Return the buffer of the gradient between a batch norm and its activation."""
        return Buffer(f"dz{stage.output + 1}", Area(self.forward.input_area(stage).shape))

    def _is_undone_by_norm(self, stage: Convolve) -> bool:
        """Tell whether the batch norm behind undoes the convolution's activation, too."""
        readers = self.segments.stages.readers(stage.output)
        return len(readers) == 1 and len(self.forward.norms_of(stage.output)) == 1

    def _convolve(self, stage: Convolve) -> Part:
        x, y = self.forward.value(stage.inputs[0]), self.forward.value(stage.output)
        dy = self.gradient(stage.output)
        part: Part = []
        if stage.activation != "NO_ACTIVATION" and not self._is_undone_by_norm(stage):
            finish = (stage.activation, show_float(stage.slope))
            arguments = (At(y), str(y.area), At(dy), str(dy.area), *finish)
            part.append(Call("activation_backward", arguments, stage.node.name, "pointwise"))
        part.append(self._weight_gradient(stage, x, dy))
        if stage.bias is not None:
            to, add = self._parameter(stage, "bias"), self._adds(stage.bias)
            arguments = (At(dy), str(dy.area), to, add)
            part.append(Call("bias_gradient", arguments, stage.node.name, "weight gradient"))
        if self._needs(stage.inputs[0]):
            part.append(self._input_gradient(stage, dy))
        return part

    def _weight_gradient(self, stage: Convolve, x: Buffer, dy: Buffer) -> Call:
        in_area, out_area = map_pair(stage, x.area, dy.area)
        tile = weight_tile(
            flat_map(dy.area.shape)[0] // stage.groups,
            flat_map(x.area.shape)[0] // stage.groups,
            *stage.window.kernel,
            self.forward.lanes,
        )
        arguments = (
            At(x),
            str(in_area),
            At(dy),
            str(out_area),
            show_window(stage.window),
            str(stage.groups),
            str(tile),
            self._parameter(stage, "weight"),
            self._adds(stage.weight),
        )
        macs = num_macs(stage, self.forward.stages)
        return Call("conv_weight_gradient", arguments, stage.node.name, "weight gradient", macs)

    def _input_gradient(self, stage: Convolve, dy: Buffer) -> Call:
        maker = self.segments.stages.maker(stage.inputs[0])
        if isinstance(maker, Pointwise) and self._follower(maker) is stage:
            return self._input_gradient_to_norm(stage, maker, dy)
        dx = self.gradient(stage.inputs[0])
        in_area, out_area = map_pair(stage, dx.area, dy.area)
        arguments = (
            At(dy),
            str(out_area),
            self.forward.numbers.place(stage, "weight"),
            At(dx),
            str(in_area),
            show_window(stage.window),
            str(stage.groups),
            input_tile(stage, in_area, self.forward.lanes),
            self._adds(dx.name),
        )
        macs = num_macs(stage, self.forward.stages)
        return Call("conv_input_gradient", arguments, stage.node.name, "input gradient", macs)

    def _input_gradient_to_norm(self, stage: Convolve, norm: Pointwise, dy: Buffer) -> Call:
        x, dz = self.forward.value(norm.inputs[0]), self._before_norm(norm)
        assert norm.norm is not None
        arguments = (
            At(dy),
            str(dy.area),
            self.forward.numbers.place(stage, "weight"),
            At(x),
            str(x.area),
            At(dz),
            show_window(stage.window),
            str(stage.groups),
            input_tile(stage, dz.area, self.forward.lanes),
            show_pointwise(norm),
            *channel_numbers(norm),
            dropout_rows(norm),
            "w->totals",
            f"slopes + {2 * norm.norm.first}",
        )
        macs = num_macs(stage, self.forward.stages)
        function = "conv_input_norm_gradient"
        return Call(function, arguments, stage.node.name, "input gradient", macs)

    def _parameter(self, stage: Stage, role: str) -> str:
        """Return C for where a parameter's gradient goes."""
        return f"gradient + {self.layout.weights[parameter_name(stage, role)]}"

    def _pointwise(self, stage: Pointwise) -> Part:
        if self._follower(stage) is not None:
            return []
        value = stage.inputs[0]
        x, dy = self.forward.value(value), self.gradient(stage.output)
        has_norm = stage.norm is not None
        dx = self._before_norm(stage) if has_norm else self.gradient(value)
        slopes = (NONE, NONE, NONE)
        if stage.slopes is not None:
            place = self.forward.numbers.place(stage, "slopes")
            slopes = (place, self._parameter(stage, "slopes"), self._adds(stage.slopes))
        # without norm and activation the input's values do not matter, and may be gone
        source = x if stage.needs_input else dy
        flat = unflattened(dy.area, Area(x.area.shape))
        arguments = (
            At(source),
            str(x.area if stage.needs_input else flat),
            At(dy),
            str(dy.area if stage.pool else flat),
            At(dx),
            str(dx.area),
            show_pointwise(stage),
            *([] if stage.pool is None else [show_window(stage.pool)]),
            *channel_numbers(stage),
            slopes[0],
            dropout_rows(stage),
            f"slopes + {2 * stage.norm.first if stage.norm is not None else 0}",
            slopes[1],
            slopes[2],
            *([self._adds(dx.name)] if stage.pool is None else []),
        )
        kind = "norm" if has_norm else "pointwise"
        function = "pointwise_backward" if stage.pool is None else "pointwise_pool_backward"
        return [Call(function, arguments, stage.node.name, kind)]

    def _follower(self, stage: Pointwise) -> Convolve | None:
        """Return the convolution whose input gradient also does the stage's backward pass."""
        readers = self.segments.stages.readers(stage.output)
        if stage.norm is None or stage.pool is not None or stage.slopes is not None:
            return None
        if len(readers) != 1 or not isinstance(readers[0], Convolve) or stage.rank > 3:
            return None
        return readers[0]

    def _pool(self, stage: Pool) -> Part:
        x, dy = self.forward.value(stage.inputs[0]), self.gradient(stage.output)
        dx = self.gradient(stage.inputs[0])
        places = (At(dy), str(dy.area), At(dx), str(dx.area), show_window(stage.window))
        if stage.kind == "max":
            arguments = (At(x), str(x.area), *places)
        else:
            arguments = (*places, str(int(stage.counts_padding)))
        arguments += (self._adds(dx.name),)
        return [Call(f"{stage.kind}_pool_backward", arguments, stage.node.name, "pool")]

    def _join(self, stage: Join) -> Part:
        dy, part, offset = self.gradient(stage.output), [], 0
        for number in stage.inputs:
            dx = self.gradient(number)
            if self._needs(number):
                # the kernel copies as many channels as the source's map says
                source = Area((dx.area.shape[0], *dy.area.shape[1:]))
                arguments = (At(dy, offset), str(source), At(dx), str(dx.area), self._adds(dx.name))
                part.append(Call("copy_map", arguments, stage.node.name, "pointwise"))
            offset += dx.area.size if stage.kind == "concat" else 0
        return part

    def _normalize_image(self, stage: NormalizeImage) -> Part:
        value = stage.inputs[0]
        x, dy, dx = self.forward.value(value), self.gradient(stage.output), self.gradient(value)
        add_parameters = self._adds(stage.parameters[0])
        needs = self._needs(value)
        arguments = (
            At(x),
            str(x.area),
            At(dy),
            str(dy.area),
            At(dx) if needs else "scratch",
            str(dx.area),
            self.forward.numbers.place(stage, "gain"),
            show_float(stage.eps),
            self._parameter(stage, "gain"),
            self._parameter(stage, "bias"),
            str(int(needs)),
            add_parameters,
            self._adds(dx.name) if needs else "0",
        )
        return [Call("sample_norm_backward", arguments, stage.node.name, "norm")]
