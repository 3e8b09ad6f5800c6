import pytest

from smidgen.errors import UnknownNameError
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.augmentation import Erasing, ResizedCrop, Rotation, Translation
from smidgen.recipes.catalogue import LADDERS, RECIPES, get_recipe
from smidgen.recipes.ladder import savings
from smidgen.recipes.parts import SGD, Adam, Constant, OneCycle, Plateau, StepDecay
from smidgen.recipes.recipe import Recipe

ORIGINS = ("era-s7/", "eva4-s5/", "mnist-challenge/", "mnist-99-4", "assignment7/")

NAMES = """
smidgen/quick smidgen/sprint
smidgen/yardstick smidgen/500 smidgen/700 smidgen/1k smidgen/1.5k smidgen/2k
smidgen/2k-15 smidgen/2.5k-15 smidgen/3k smidgen/5k smidgen/10k
era-s7/1 era-s7/2 era-s7/3 era-s7/4 era-s7/5 era-s7/6 era-s7/7 era-s7/as-told
eva4-s5/1 eva4-s5/2 eva4-s5/3 eva4-s5/4 eva4-s5/5
mnist-challenge/conv mnist-challenge/separable mnist-challenge/inception
mnist-99-4 mnist-99-4/dropout-0.3
assignment7/1 assignment7/2 assignment7/3 assignment7/3-head
anchors/697 anchors/1936 anchors/820 anchors/6720 anchors/9994
smidgen/teacher-25k
"""

# As the origins' own summaries have it: best, the epochs that reach it, last, mean of the last
# five, epochs at or above 99.4.
SUMMARIES = {
    "era-s7/2": (98.65, [15], 98.65, 98.51, []),
    "era-s7/3": (99.15, [12], 99.00, 99.05, []),
    "era-s7/4": (99.16, [12], 99.08, 99.09, []),
    "era-s7/5": (98.16, [15], 98.16, 97.90, []),
    "era-s7/6": (99.34, [12], 99.22, 99.26, []),
    "era-s7/7": (99.50, [15], 99.50, 99.38, [10, 12, 15]),
    "eva4-s5/1": (98.98, [14], 98.85, 98.86, []),
    "eva4-s5/2": (98.94, [13], 98.75, 98.71, []),
    "eva4-s5/3": (99.35, [11, 14], 99.26, 99.29, []),
    "eva4-s5/4": (99.45, [9], 99.44, 99.39, [9, 10, 13, 14, 15]),
    "eva4-s5/5": (99.46, [10, 11], 99.43, 99.43, [10, 11, 12, 14, 15]),
    "assignment7/1": (99.16, [20], 99.16, 99.00, []),
    "assignment7/2": (99.30, [13], 99.27, 99.23, []),
    "assignment7/3": (99.47, [14], 99.44, 99.44, [10, 11, 12, 13, 14, 15]),
    "assignment7/3-head": (99.46, [15], 99.46, 99.42, [9, 10, 12, 13, 14, 15]),
    "anchors/6720": (99.53, [10, 13], 99.50, 99.49, [10, 11, 12, 13, 14, 15]),
    "anchors/9994": (99.61, [13], 99.60, 99.54, [10, 11, 12, 13, 14, 15]),
}

# Epochs, batch size, optimizer, learning rate, schedule.
TRAINING = {
    **{f"era-s7/{step}": (15, 128, SGD, 0.01, Constant) for step in range(1, 6)},
    "era-s7/6": (15, 128, SGD, 0.1, Constant),
    "era-s7/7": (15, 128, SGD, 0.1, Constant),
    "eva4-s5/1": (15, 128, SGD, 0.01, Constant),
    "eva4-s5/2": (15, 64, SGD, 0.01, Constant),
    "eva4-s5/3": (15, 64, SGD, 0.01, Constant),
    "eva4-s5/4": (15, 64, SGD, 0.01, StepDecay),
    "eva4-s5/5": (15, 64, SGD, 0.01, StepDecay),
    "mnist-challenge/conv": (10, 32, Adam, 0.001, Plateau),
    "mnist-challenge/separable": (10, 32, Adam, 0.001, Plateau),
    "mnist-challenge/inception": (10, 32, Adam, 0.001, Plateau),
    "mnist-99-4": (19, 128, Adam, 0.003, OneCycle),
    "mnist-99-4/dropout-0.3": (19, 128, Adam, 0.003, OneCycle),
    "assignment7/1": (20, 128, SGD, 0.01, Constant),
    "assignment7/2": (15, 128, SGD, 0.01, Constant),
    "assignment7/3": (15, 64, SGD, 0.01, StepDecay),
    "assignment7/3-head": (15, 64, SGD, 0.01, StepDecay),
}


def test_names_in_reading_order():
    """The catalogue holds these recipes, in this order, each under its own name."""
    assert list(RECIPES) == NAMES.split()
    assert all(recipe.name == name for name, recipe in RECIPES.items())


def test_every_origin_tells_its_ladder():
    """Each of the five origins has a ladder, and every step of it is in the catalogue."""
    assert list(LADDERS) == ["era-s7", "eva4-s5", "mnist-challenge", "mnist-99-4", "assignment7"]
    assert [len(steps) for steps in LADDERS.values()] == [7, 5, 3, 2, 4]
    assert all(step in RECIPES for steps in LADDERS.values() for step in steps)


def test_get_recipe():
    """A recipe is found by its name."""
    assert get_recipe("eva4-s5/5").network == RECIPES["eva4-s5/5"].network


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("era-s7/77", "No recipe is called `era-s7/77`. Did you mean `era-s7/7`?"),
        ("smidgen/quik", "No recipe is called `smidgen/quik`. Did you mean `smidgen/quick`?"),
        (
            "zzz",
            "No recipe is called `zzz`. Known: `smidgen/quick`, `smidgen/sprint`, "
            "`smidgen/yardstick`, `smidgen/500`, `smidgen/700`, `smidgen/1k`, `smidgen/1.5k`, "
            "`smidgen/2k`, `smidgen/2k-15`, `smidgen/2.5k-15`, `smidgen/3k`, `smidgen/5k`, ....",
        ),
    ],
)
def test_get_recipe_suggests_the_nearest(name: str, text: str):
    """A wrong name is answered with the nearest one, or with what there is."""
    with pytest.raises(UnknownNameError) as caught:
        get_recipe(name)

    assert str(caught.value) == text


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip_through_json(name: str):
    """Every recipe and its network come back equal from their exchange form."""
    recipe = RECIPES[name]

    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(recipe.to_json(indent=None)).fingerprint() == recipe.fingerprint()
    assert Network.from_json(recipe.network.to_json()) == recipe.network


def test_fingerprints_differ():
    """No two entries of the catalogue are the same training under two names."""
    assert len({recipe.fingerprint() for recipe in RECIPES.values()}) == len(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_entry_says_what_it_is(name: str):
    """Each entry has one sentence on itself, a source, an aim and what was learned."""
    about = RECIPES[name].about

    assert about.summary.endswith(".")
    assert about.source
    assert about.target.endswith((".", "?"))
    assert about.analysis.endswith(".")
    assert all(note.endswith(".") for note in about.notes)
    if name.startswith(ORIGINS) and name != "era-s7/as-told":
        assert "commit" in about.source
        assert about.notes


@pytest.mark.parametrize("name", RECIPES)
def test_budgets_are_kept(name: str):
    """No entry promises a size or a number of epochs that it does not keep."""
    recipe = RECIPES[name]
    num_params = trace(recipe.network).totals.num_params

    assert num_params <= (recipe.budget.max_params or num_params)
    assert recipe.epochs <= (recipe.budget.max_epochs or recipe.epochs)


@pytest.mark.parametrize("name", TRAINING)
def test_training_settings_of_origins(name: str):
    """Epochs, batch, optimizer, rate and schedule are the origin's."""
    recipe = RECIPES[name]

    assert (
        recipe.epochs,
        recipe.batch_size,
        type(recipe.optimizer),
        recipe.optimizer.lr,
        type(recipe.schedule),
    ) == TRAINING[name]


def test_conventions_of_origins():
    """What the origins do differently from one another is said by their recipes."""
    erased, later = RECIPES["assignment7/3"], RECIPES["assignment7/3-head"]

    assert RECIPES["eva4-s5/4"].schedule == StepDecay(step_epochs=5, gamma=0.15)
    assert erased.schedule == StepDecay(step_epochs=7, gamma=0.1)
    assert erased.augmentation.transforms == (ResizedCrop(0.85), Rotation(15.0), Erasing(0.1))
    assert erased.augmentation.position == "before_normalization"
    assert later.augmentation.position == "after_normalization"
    assert (erased.normalization.train_mean, erased.normalization.train_std) == (0.1307, 0.3081)
    assert (erased.normalization.eval_mean, erased.normalization.eval_std) == (0.1325, 0.3104)
    assert RECIPES["era-s7/7"].augmentation.transforms == (Rotation(35.0),)
    assert RECIPES["eva4-s5/5"].augmentation.transforms == (Rotation(6.0),)
    assert RECIPES["eva4-s5/5"].augmentation.fill == 1 / 255
    assert RECIPES["mnist-99-4"].augmentation.transforms == (
        Rotation(10.0),
        Translation(2.8, whole_pixels=True),
    )
    assert RECIPES["mnist-99-4"].optimizer == Adam(lr=0.003, weight_decay=1e-4)
    assert RECIPES["mnist-challenge/conv"].normalization.train_std == 1.0


@pytest.mark.parametrize("name", LADDERS["mnist-challenge"])
def test_protocol_of_the_challenge(name: str):
    """One origin holds out the last 6,000 images and reports its last epoch; its rule divides by 1.

    Its networks start as Keras' do.
    """
    recipe = RECIPES[name]

    assert (recipe.origin.num_train, recipe.origin.selection) == (54_000, "last")
    assert isinstance(recipe.schedule, Plateau)
    assert recipe.schedule.divisor == 1.0
    assert (recipe.network.init, recipe.network.output) == ("keras", "softmax")
    assert recipe.about.claim is not None
    assert recipe.about.claim.split == "valid"


@pytest.mark.parametrize("name", SUMMARIES)
def test_claims_agree_with_their_logs(name: str):
    """Best, last, mean of the last five and epochs at 99.4 of each log are as published."""
    claim = RECIPES[name].about.claim
    assert claim is not None
    log = claim.test_log
    best, best_epochs, last, mean, reached = SUMMARIES[name]

    assert max(log) == best
    assert [epoch for epoch, value in enumerate(log, 1) if value == best] == best_epochs
    assert log[-1] == last
    assert sum(log[-5:]) / 5 == pytest.approx(mean, abs=0.005 + 1e-9)
    assert [epoch for epoch, value in enumerate(log, 1) if value >= 99.4] == reached
    assert claim.best_epoch is not None
    assert log[claim.best_epoch - 1] == claim.best_accuracy


@pytest.mark.parametrize("name", RECIPES)
def test_logs_cover_every_epoch(name: str):
    """A log has one entry per epoch for training and for evaluation, or is not there."""
    claim = RECIPES[name].about.claim

    if claim is not None and claim.test_log:
        assert len(claim.test_log) == len(claim.train_log) == RECIPES[name].epochs


@pytest.mark.parametrize("name", RECIPES)
def test_claimed_sizes(name: str):
    """A source's stated size is ours; where it counts as Keras does, or pruned, it is known."""
    claim, totals = RECIPES[name].about.claim, trace(RECIPES[name].network).totals
    if claim is None:
        return
    expected = totals.num_params
    if name.startswith("mnist-challenge/"):
        expected = totals.keras_total
    if name == "anchors/820":
        expected = 575

    assert claim.num_params == expected


def test_savings_of_the_challenge():
    """The challenge's solutions save 42.5 and 64.4 % as Keras counts, for 0.78 and 1.84 points."""
    conv, separable, inception = savings([RECIPES[name] for name in LADDERS["mnist-challenge"]])

    assert (conv.params_saved_percent, conv.keras_saved_percent, conv.points_lost) == (0, 0, 0)
    assert separable.keras_saved_percent == pytest.approx(42.5, abs=0.05)
    assert inception.keras_saved_percent == pytest.approx(64.4, abs=0.05)
    assert separable.params_saved_percent == pytest.approx(43.1, abs=0.05)
    assert inception.params_saved_percent == pytest.approx(64.1, abs=0.05)
    assert separable.points_lost == pytest.approx(0.78)
    assert inception.points_lost == pytest.approx(1.84)


def test_savings_without_a_claim():
    """Where a step or the first step claims no accuracy, no loss is made up."""
    rows = savings([RECIPES["era-s7/7"], RECIPES["era-s7/as-told"]])

    assert [row.points_lost for row in rows] == [0, None]
    assert rows[1].params_saved_percent == 0
