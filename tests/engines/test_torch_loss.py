import numpy as np
import pytest
import torch

from smidgen.engines.torch_loss import training_loss
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import Loss
from smidgen.recipes.recipe import Recipe

SCORES = np.random.default_rng(0).normal(0.0, 2.0, (6, 10))
LABELS = np.array([3, 1, 4, 1, 5, 9])
TARGETS = np.random.default_rng(1).dirichlet(np.ones(10), 6)
TARGETS[0] = np.eye(10)[3]


def loss_of(recipe: Recipe, scores: torch.Tensor, targets: np.ndarray | None) -> torch.Tensor:
    """Return the loss in float64."""
    given = None if targets is None else torch.from_numpy(targets)
    return training_loss(recipe, scores, torch.from_numpy(LABELS), given)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return log probabilities."""
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.9), (4.0, 0.3), (2.0, 1.0)])
def test_loss_is_the_formula_of_the_recipe(
    temperature: float, weight: float, tiny_recipe: Recipe
) -> None:
    """It is (1 - weight) times the smoothed loss and weight times T^2 KL(teachers || student)."""
    taught = Distillation((Teacher(tiny_recipe),), temperature=temperature, weight=weight)
    recipe = tiny_recipe.replace(loss=Loss(label_smoothing=0.2), distillation=taught)
    own = log_softmax(SCORES)
    hard = -(0.8 * own[np.arange(6), LABELS] + 0.2 * own.mean(axis=1)).mean()
    logs = np.log(np.where(TARGETS > 0, TARGETS, 1.0))
    divergence = (TARGETS * (logs - log_softmax(SCORES / temperature))).sum(axis=1).mean()

    found = float(loss_of(recipe, torch.from_numpy(SCORES), TARGETS))

    assert found == pytest.approx((1 - weight) * hard + weight * temperature**2 * divergence)


def test_an_agreeing_student_learns_from_labels_alone(tiny_recipe: Recipe) -> None:
    """Where a student says what its teachers say, only the labels pull at it."""
    recipe = tiny_recipe.replace(distillation=Distillation((Teacher(tiny_recipe),), 3.0, 0.75))
    agreed = np.exp(log_softmax(SCORES / 3.0))
    gradients = []
    for each, targets in ((recipe, agreed), (tiny_recipe, None)):
        scores = torch.from_numpy(SCORES).requires_grad_()
        loss_of(each, scores, targets).backward()
        assert scores.grad is not None
        gradients.append(scores.grad.numpy())

    assert gradients[0] == pytest.approx(0.25 * gradients[1], abs=1e-12)


def test_without_teachers_it_is_cross_entropy(tiny_recipe: Recipe) -> None:
    """A recipe without teachers has the plain loss."""
    found = float(loss_of(tiny_recipe, torch.from_numpy(SCORES), None))

    assert found == pytest.approx(-log_softmax(SCORES)[np.arange(6), LABELS].mean())
