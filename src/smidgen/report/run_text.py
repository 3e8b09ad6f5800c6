"""A run in, a write-up in Markdown out: Target, Result, Analysis, as the origins tell a step."""

from collections.abc import Iterable, Sequence

from smidgen.evidence.answers import calibration
from smidgen.evidence.wording import percent
from smidgen.report import run_words as words
from smidgen.report.gallery import mistakes
from smidgen.report.run_view import RunView

_MOST_MISTAKES = 10


def run_text(view: RunView) -> str:
    """Return the write-up of a run, to be read, edited and handed in."""
    record = view.record
    parts = [
        f"# {_line(record.recipe.name)}, seed {record.seed}",
        *([_line(view.about.summary)] if view.about.summary else []),
        *(f"> {_line(note)}" for note in view.notes if note != view.pictures.reason),
        f"## Target\n\n{_line(_target(view))}",
        f"## Result\n\n{_list(_results(view))}",
    ]
    found = words.analysis(view)
    if found:
        parts.append(f"## Analysis\n\n{_list(found)}")
    parts += [
        f"## Model\n\n{_model(view)}",
        f"## Recipe\n\n{_table(('setting', 'value'), words.recipe_facts(view))}",
    ]
    if record.epochs:
        parts.append(f"## Log\n\n{_log(view)}")
    if view.answers is not None and len(view.answers.wrong):
        parts.append(f"## Mistakes\n\n{_mistakes(view)}")
    parts.append(f"## Repeat\n\n{_repeat(view)}")
    return "\n\n".join(parts) + "\n"


def _target(view: RunView) -> str:
    told = view.about.target
    promised = "; ".join(f"{each.what} {each.limit}" for each in view.promises())
    return (
        " ".join(filter(None, [told, f"Budget: {promised}." if promised else ""])) or "None said."
    )


def _results(view: RunView) -> list[str]:
    found = [words.headline(view)]
    if view.interval is not None:
        found.append(f"{words.uncertainty(view)} for images of this kind (Wilson).")
    for name, text, remark in words.accuracies(view):
        found.append(f"{name}: {text}{f' ({remark})' if remark else ''}")
    for promise in view.promises():
        kept = "kept" if promise.is_kept else "not kept"
        found.append(f"{promise.what}: {promise.given}, {promise.limit}: {kept}")
    if view.answers is not None:
        seen = calibration(view.answers)
        found.append(
            f"expected calibration error {seen.ece:.4f}, Brier score {seen.brier:.5f}, log-loss "
            f"{seen.log_loss:.4f} nats"
        )
    return found


def _model(view: RunView) -> str:
    totals = view.trace.totals
    rows = [words.layer_cells(row, totals.num_params) for row in view.trace.rows]
    return (
        f"{_table(words.LAYER_COLUMNS, rows, left=3)}\n\n{totals.num_params:,} parameters, "
        f"{totals.num_macs:,} multiply-accumulates for one image, receptive field "
        f"{totals.receptive_field}."
    )


def _log(view: RunView) -> str:
    split = view.record.epochs[0].split
    header = ("epoch", "train loss", "train accuracy", f"{split} loss", f"{split} accuracy", "lr")
    rows = [
        (
            epoch.epoch,
            f"{epoch.train_loss:.4f}",
            percent(epoch.train_accuracy),
            f"{epoch.eval_loss:.4f}",
            percent(epoch.eval_accuracy),
            f"{epoch.lr_last:.3g}",
        )
        for epoch in view.record.epochs
    ]
    return _table(header, rows, left=0)


def _mistakes(view: RunView) -> str:
    rows = [(each.true_name, each.given_name, each.count) for each in mistakes(view)]
    return _table(("is", "taken for", "images"), rows[:_MOST_MISTAKES], left=2)


def _repeat(view: RunView) -> str:
    first = "" if view.is_of_catalogue else "With the recipe saved as `recipe.json`:\n\n"
    return (
        f"{first}```sh\n{words.repeat_command(view)}\n```\n\n"
        f"{_table(('', ''), words.run_facts(view))}"
    )


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_line(line)}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 2) -> str:
    rule = ["---" if place < left else "--:" for place in range(len(header))]
    body = [[_cell(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(header), rule, *body])


def _cell(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) else _line(str(cell)).replace("|", "\\|")


def _line(text: str) -> str:
    """Return text on one line in which no HTML can begin."""
    return " ".join(text.split()).replace("<", "\\<")
