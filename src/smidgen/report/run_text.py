"""A run in, its words out: sentences and rows for every page, and the write-up in Markdown."""

import shlex
from collections.abc import Iterable, Sequence

from smidgen.evidence.answers import calibration
from smidgen.evidence.ladders import StepRuns, analyze
from smidgen.evidence.wording import between, markdown_table, percent, span_text
from smidgen.network.trace import Row
from smidgen.report.run_view import RunView, mistakes
from smidgen.runs.record import ON_TEST
from smidgen.values import to_plain

_PROTOCOLS = {
    "final": "Trained on all training images; the result is the last epoch, and nothing was "
    "chosen by what was seen on the test images.",
    "tune": "Images were held out of training for measuring; the test images were never opened.",
    "origin": "Split and selection are those of the recipe's source.",
}

Facts = list[tuple[str, str]]


def headline(view: RunView) -> str:
    """Say in one or two sentences what came out."""
    record, result = view.record, view.record.result
    size = f"{record.num_params:,} parameters"
    if result is None:
        return f"{size}, {len(record.epochs)} of {record.recipe.epochs} epochs: not finished yet."
    which = "its best epoch, selected on the test set" if view.is_selected else "the last epoch"
    text = (
        f"{size} get {result.num_images - result.num_errors:,} of {result.num_images:,} "
        f"{result.split} images right after {which}: {percent(result.accuracy)}."
    )
    if view.target is None:
        return text
    kept = result.last_accuracy >= view.target
    at_last = f" after the last epoch ({percent(result.last_accuracy)})" if view.is_selected else ""
    return f"{text} The target of {100 * view.target:g} % is {'' if kept else 'not '}kept{at_last}."


def accuracies(view: RunView) -> list[tuple[str, str, str]]:
    """Return last epoch, mean of the last five and best side by side, each with a remark."""
    result = view.record.result
    if result is None or not view.record.epochs:
        return []
    split = view.record.epochs[-1].split
    remark = ON_TEST if view.is_selected else "an observation that decided nothing"
    num_last = min(5, len(view.record.epochs))
    return [
        (f"last epoch, {split}", percent(result.last_accuracy), ""),
        (f"mean of the last {num_last}", percent(result.mean_of_last_five), ""),
        (f"best epoch, {result.best_epoch}", percent(result.best_accuracy), remark),
    ]


def uncertainty(view: RunView) -> str:
    """Return the interval of the accuracy in words; "" for an unfinished run."""
    return "" if view.interval is None else between(view.interval)


def analysis(view: RunView) -> tuple[str, ...]:
    """Return what the numbers of a finished run say, sentence by sentence."""
    if view.record.result is None or not view.record.epochs:
        return ()
    return analyze(StepRuns(view.record.recipe, (view.record,)), None)


def protocol_line(view: RunView) -> str:
    """Say how the run measured itself."""
    text = _PROTOCOLS[view.record.protocol]
    return f"{text} Its epoch was {ON_TEST}." if view.is_selected else text


def recipe_facts(view: RunView) -> Facts:
    """Return the settings of a run's recipe, in the words of its exchange form."""
    recipe = view.record.recipe
    augmentation = recipe.augmentation
    num_clean = min(recipe.clean_epochs, recipe.epochs)
    kept = f" (none in the last {num_clean})" if num_clean else ""
    transforms = ", ".join(_said(each) for each in augmentation.transforms)
    facts = [
        ("optimizer", _said(recipe.optimizer)),
        ("schedule", _said(recipe.schedule)),
        ("epochs", f"{recipe.epochs}, batches of {recipe.batch_size}"),
        ("loss", _said(recipe.loss)),
        ("augmentation", f"{transforms}{kept}" if transforms else "none"),
        ("normalization", _said(recipe.normalization)),
    ]
    if recipe.averaging is not None:
        facts.append(("weight averaging", _said(recipe.averaging)))
    return facts


def _said(part: object) -> str:
    plain = to_plain(part)
    name = plain.pop("kind", None) or plain.pop("name", "")
    settings = [
        f"{key} {_number(item)}"
        for key, item in plain.items()
        if item is not None and item is not False
    ]
    return " ".join(filter(None, [str(name).replace("_", " "), ", ".join(settings)]))


def _number(item: object) -> str:
    if isinstance(item, float):
        return f"{item:g}"
    return "on" if item is True else str(item)


def run_facts(view: RunView) -> Facts:
    """Return where, when and on what a run ran."""
    record = view.record
    used, data = record.environment, record.data
    held = f", {data.num_valid:,} held out" if data.num_valid else ""
    test = f", {data.num_test:,} test images" if data.num_test else ", test images never opened"
    taught = [("taught by", f"{each.run} ({each.recipe})") for each in record.teachers]
    return [
        ("run", view.name),
        ("started", record.started),
        ("protocol", f"{record.protocol}: {protocol_line(view)}"),
        ("data", f"{data.name}: {data.num_train:,} training images{held}{test}"),
        ("data SHA-256", data.sha256),
        *taught,
        ("engine", f"{used.engine} on {used.device}, threads: {used.threads}"),
        ("machine", ", ".join(f"{key} {text}" for key, text in used.hardware.items())),
        ("software", ", ".join(f"{key} {text}" for key, text in used.versions.items())),
        ("seconds", f"{record.train_seconds:.1f} of training, {record.wall_seconds:.1f} in all"),
        ("recipe fingerprint", record.fingerprint),
        ("run identity", f"{record.identity}, results version {record.results_version}"),
    ]


def repeat_command(view: RunView) -> str:
    """Return the command that trains this very run again; its recipe may have to be saved first."""
    record = view.record
    used = record.environment
    words = [
        *("smidgen", "train", record.recipe.name if view.is_of_catalogue else "recipe.json"),
        *("--seed", str(record.seed), "--protocol", record.protocol, "--engine", used.engine),
    ]
    if used.engine == "torch":  # another number of threads gives other bits
        words += ["--threads", str(used.threads)]
    if used.device != "cpu":
        words += ["--device", used.device]
    for option, chosen in record.data.reading.items():
        words += [f"--{option}", str(chosen)]
    return shlex.join(words)


def layer_cells(row: Row, num_params: int) -> Sequence[object]:
    """Return a row of the layer table: where, what, shape, size, share, work, reach."""
    share = 100 * row.num_params / max(num_params, 1)
    return (
        row.path,
        row.text if not row.is_shared else f"{row.text} (shared)",
        " × ".join(map(str, row.output_shape)),
        row.num_params or None,
        f"{share:.1f} %" if row.num_params else None,
        row.num_macs or None,
        span_text(row.reach.receptive_field, " to "),
        span_text(row.reach.jump, " to "),
    )


LAYER_COLUMNS = ("place", "layer", "output", "parameters", "share", "MACs", "sees", "jump")


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
    found = analysis(view)
    if found:
        parts.append(f"## Analysis\n\n{_list(found)}")
    parts += [
        f"## Model\n\n{_model(view)}",
        f"## Recipe\n\n{markdown_table(('setting', 'value'), recipe_facts(view), {0, 1}, '')}",
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
    found = [headline(view)]
    if view.interval is not None:
        found.append(f"{uncertainty(view)} for images of this kind (Wilson).")
    for name, text, remark in accuracies(view):
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
    rows = [layer_cells(row, totals.num_params) for row in view.trace.rows]
    table = markdown_table(LAYER_COLUMNS, rows, {0, 1, 2}, "")
    return (
        f"{table}\n\n{totals.num_params:,} parameters, "
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
    return markdown_table(header, rows, (), "")


def _mistakes(view: RunView) -> str:
    rows = [(each.true_name, each.given_name, each.count) for each in mistakes(view)]
    return markdown_table(("is", "taken for", "images"), rows[:_MOST_MISTAKES], {0, 1}, "")


def _repeat(view: RunView) -> str:
    first = "" if view.is_of_catalogue else "With the recipe saved as `recipe.json`:\n\n"
    facts = markdown_table(("", ""), run_facts(view), {0, 1}, "")
    return f"{first}```sh\n{repeat_command(view)}\n```\n\n{facts}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_line(line)}" for line in lines)


def _line(text: str) -> str:
    """Return text on one line in which no HTML can begin."""
    return " ".join(text.split()).replace("<", "\\<")
