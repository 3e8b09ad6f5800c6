"""The table of a network as an Excel workbook that goes on calculating.

Sizes, receptive fields and sums are formulas on the kernels, strides and paddings beside them, so a
changed kernel moves everything below it. Every formula carries its value, for viewers that do not
calculate. Text stays text, whatever it looks like.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.errors import NetworkError
from smidgen.network.network import INPUT, Network, Node
from smidgen.network.review import review
from smidgen.network.shapes import MAP
from smidgen.network.trace import Row, Trace, reaches, trace

if TYPE_CHECKING:
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

_AXES = ("rows", "columns")
_FIRST = 4
"""Row of the sheet, from 0, that holds the image; the layers follow."""


def workbook(network: Network, name: str, max_params: int | None = None) -> bytes:
    """Return the workbook as the bytes of an .xlsx file.

    Args:
        network: What to tabulate.
        name: What people call it.
        max_params: The budget that shares are counted against; by default the parameters.

    Raises:
        NetworkError: XlsxWriter is not installed.
    """
    try:
        import xlsxwriter
    except ImportError as problem:
        raise NetworkError(
            "A spreadsheet needs XlsxWriter. Install it with `pip install XlsxWriter`."
        ) from problem
    table, nodes = trace(network), network.graph.nodes
    square = network.input_shape[1] == network.input_shape[2] and all(
        _along(node, 0) == _along(node, 1) for node in nodes
    )
    buffer = io.BytesIO()
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_numbers": False,
        "strings_to_urls": False,
    }
    with xlsxwriter.Workbook(buffer, options) as book:
        _layers(book, table, name, max_params)
        for axis in range(1 if square else 2):
            title = "Receptive field" if square else f"Receptive field ({_AXES[axis]})"
            _ReceptiveField(book, book.add_worksheet(title), network, table, axis).write(name)
        _notes(book, network)
        for sheet in book.worksheets():
            sheet.set_landscape()
            sheet.fit_to_pages(1, 0)  # one page wide, however long
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Steps:
    """How a layer moves along one axis; `before` and `after` are cells of padding."""

    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0


def _along(node: Node, axis: int) -> _Steps:
    window = node.layer.window(node.input_shape) if len(node.inputs) == 1 else None
    if window is None or len(node.input_shape) != MAP:
        return _Steps()
    sides = (window.extent, window.stride, window.before, window.after)
    return _Steps(*(side[axis] for side in sides))


class _ReceptiveField:
    """One sheet: size, jump, receptive field, start and padding along one axis."""

    HEAD = ("#", "layer", "reads", "kernel", "stride", "pad before", "pad after", "size")

    def __init__(
        self, book: "Workbook", sheet: "Worksheet", network: Network, table: Trace, axis: int
    ) -> None:
        self.sheet, self.network, self.table, self.axis = sheet, network, table, axis
        self.reaches = reaches(network.graph, axis)
        self.heads = _heads(book)
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.input = book.add_format({"font_color": "#1f4fa8"})
        self.joins = any(len(node.inputs) > 1 for node in network.graph.nodes)

    @property
    def quantities(self) -> tuple[str, ...]:
        """The four quantities; where paths join, the smallest and the largest of each."""
        names = ("jump", "receptive field", "start", "padding")
        if not self.joins:
            return names
        return tuple(f"{name} {end}" for name in names for end in ("min", "max"))

    def write(self, name: str) -> None:
        sheet = self.sheet
        sheet.write_string(0, 0, f"{name}: what one value sees of the image", self.title)
        sheet.write_string(
            1, 0, "Blue numbers may be changed; all others follow. Lengths are pixels of the image."
        )
        for column, text in enumerate((*self.HEAD, *self.quantities)):
            sheet.write_string(_FIRST - 1, column, text, self.heads[column > 2])
        sheet.write_string(_FIRST, 1, "image")
        sheet.write_number(_FIRST, 7, self.network.input_shape[1 + self.axis], self.input)
        starts = {"jump": 1, "receptive field": 1}
        for offset, quantity in enumerate(self.quantities):
            base = quantity.removesuffix(" min").removesuffix(" max")
            sheet.write_number(_FIRST, 8 + offset, starts.get(base, 0))
        for node, row in zip(self.network.graph.nodes, self.table.rows, strict=True):
            self.write_row(node, row)
        sheet.freeze_panes(_FIRST, 2)
        sheet.set_column(1, 1, 34)
        sheet.set_column(2, 7, 11)
        sheet.set_column(8, 7 + len(self.quantities), 18 if self.joins else 14)

    def write_row(self, node: Node, row: Row) -> None:
        line = _line(node.index)
        reads = ", ".join(
            "image" if index == INPUT else self.network.graph.nodes[index].path
            for index in node.inputs
        )
        for column, text in enumerate((row.path, row.text, reads)):
            self.sheet.write_string(line, column, text)
        steps = _along(node, self.axis)
        if len(node.inputs) == 1:
            numbers = (steps.kernel, steps.stride, steps.before, steps.after)
            for column, number in enumerate(numbers):
                self.sheet.write_number(line, 3 + column, number, self.input)
        self.write_size(node, line)
        reach = self.reaches[node.index]
        spans = (reach.jump, reach.receptive_field, reach.start, reach.padding)
        for offset, quantity in enumerate(self.quantities):
            number, end = divmod(offset, 2) if self.joins else (offset, 1)
            formula = self.formula(node, line, quantity)
            _live(self.sheet, (line, 8 + offset), formula, spans[number][end])

    def write_size(self, node: Node, line: int) -> None:
        size = node.output_shape[1 + self.axis] if len(node.output_shape) == MAP else 1
        source = f"H{_line(node.inputs[0]) + 1}"
        here = line + 1
        formula = f"={source}"
        if len(node.inputs) == 1:
            formula = f"=INT(({source}+F{here}+G{here}-D{here})/E{here})+1"
        self.sheet.write_formula(line, 7, formula, None, size)

    def formula(self, node: Node, line: int, quantity: str) -> str:
        """Return how a quantity follows from the rows that the layer reads."""
        base, _, end = quantity.rpartition(" ") if self.joins else (quantity, "", "max")
        here, source = line + 1, node.inputs[0]

        def cell(name: str, index: int, which: str) -> str:
            wanted = f"{name} {which}" if self.joins else name
            return f"{_letter(8 + self.quantities.index(wanted))}{_line(index) + 1}"

        if len(node.inputs) > 1:
            cells = ",".join(cell(base, index, end) for index in node.inputs)
            return f"={end.upper()}({cells})"
        own, jump = cell(base, source, end), cell("jump", source, end)
        match base:
            case "jump":
                return f"={own}*E{here}"
            case "receptive field":
                return f"={own}+(D{here}-1)*{jump}"
            case "padding":
                return f"={own}+F{here}*{jump}"
        inward = f"((D{here}-1)/2-F{here})"
        if not self.joins:
            return f"={own}+{inward}*{jump}"
        low, high = cell("jump", source, "min"), cell("jump", source, "max")
        return f"={own}+{end.upper()}({inward}*{low},{inward}*{high})"


def _layers(book: "Workbook", table: Trace, name: str, max_params: int | None) -> None:
    sheet = book.add_worksheet("Layers")
    heads = _heads(book)
    share = book.add_format({"num_format": "0.0 %;;–"})
    whole = book.add_format({"num_format": "#,##0;-#,##0;–"})
    totals = table.totals
    budget = max(totals.num_params, 1) if max_params is None else max_params
    sheet.write_string(0, 0, name, book.add_format({"bold": True, "font_size": 14}))
    sheet.write_string(1, 0, "budget (parameters)" if max_params else "parameters")
    sheet.write_number(1, 2, budget, whole)
    head = ("#", "layer", "output", "parameters", "share", "buffers", "MACs", "activations")
    for column, text in enumerate(head):
        sheet.write_string(_FIRST - 1, column, text, heads[column > 2])
    for number, row in enumerate(table.rows):
        line = _FIRST + number
        shape = " × ".join(str(size) for size in row.output_shape)
        for column, text in enumerate((row.path, row.text, shape)):
            sheet.write_string(line, column, text)
        sheet.write_number(line, 3, row.num_params, whole)
        _live(sheet, (line, 4), f"=D{line + 1}/$C$2", row.num_params / budget, share)
        for column, count in enumerate((row.num_buffers, row.num_macs, row.num_activations)):
            sheet.write_number(line, 5 + column, count, whole)
    end = _FIRST + len(table.rows)
    sheet.write_string(end, 1, "total", book.add_format({"bold": True}))
    sums = {3: totals.num_params, 5: totals.num_buffers, 6: totals.num_macs}
    for column, total in (sums | {7: totals.num_activations}).items():
        letter = _letter(column)
        sheet.write_formula(end, column, f"=SUM({letter}{_FIRST + 1}:{letter}{end})", whole, total)
    spent = totals.num_params / budget
    _live(sheet, (end, 4), f"=SUM(E{_FIRST + 1}:E{end})", spent, share)
    _other_totals(sheet, end + 2, totals.to_plain(), whole)
    sheet.freeze_panes(_FIRST, 2)
    sheet.set_column(0, 0, 8)
    sheet.set_column(1, 1, 34)
    sheet.set_column(2, 7, 14)


def _other_totals(sheet: "Worksheet", line: int, totals: dict[str, Any], whole: Any) -> None:
    """Write the totals by other counting rules than the columns'."""
    shown = {
        "num_dead": "dead parameters (registered, never reached)",
        "keras_total": "Keras total (parameters + buffers)",
        "folded": "folded (batch norms merged)",
        "torchinfo_mult_adds": "torchinfo mult-adds",
        "fvcore_flops": "fvcore flops",
        "torch_flops": "torch flop counter",
    }
    for offset, (key, text) in enumerate(shown.items()):
        sheet.write_string(line + offset, 1, text)
        if totals[key] is not None:
            sheet.write_number(line + offset, 3, totals[key], whole)


def _heads(book: "Workbook") -> tuple[Any, Any]:
    """Return the formats of titles over text and over numbers."""
    title = {"bold": True, "bottom": 1}
    return book.add_format(title), book.add_format(title | {"align": "right"})


def _notes(book: "Workbook", network: Network) -> None:
    sheet = book.add_worksheet("Remarks")
    bold = book.add_format({"bold": True, "bottom": 1})
    wrapped = book.add_format({"text_wrap": True, "valign": "top"})
    cells: list[tuple[str, ...]] = [("#", "rule", "remark")]
    cells += [(remark.path, remark.rule, remark.text) for remark in review(network)]
    for line, texts in enumerate(cells):
        for column, text in enumerate(texts):
            sheet.write_string(line, column, text, wrapped if line else bold)
    sheet.set_column(1, 1, 20)
    sheet.set_column(2, 2, 90)


def _live(
    sheet: "Worksheet", cell: tuple[int, int], formula: str, cached: Any, style: Any = None
) -> None:
    """Write a formula with its value; `Any` because the library declares values as whole."""
    sheet.write_formula(*cell, formula, style, cached)


def _line(index: int) -> int:
    """Return the row of the sheet, from 0, of an operation or of the image."""
    return _FIRST + 1 + index


def _letter(column: int) -> str:
    return chr(ord("A") + column)
