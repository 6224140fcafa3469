"""docs/methods.md: its table is what the methods say of themselves, so that no row is a memory of former settings."""

from pathlib import Path

from whytransfer.methods import METHODS, options_of
from whytransfer.views.recipes import RECIPES

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
NEEDS = {"labels": "class labels", "regions": "regions", "boxes": "boxes", "semantic": "classes of pixels"}
COLUMNS = (
    "`--method`",
    "labels",
    "views (`--recipe`)",
    "epochs",
    "batch",
    "optimiser",
    "lr at 256",
    "decay",
    "own settings",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def row(name):
    kind = METHODS[name]
    t, own = kind.defaults, options_of(name)
    warm = f", warm-up {t.warmup_epochs:g}" if t.warmup_epochs else ""
    own = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in own.items() if v is not None)
    needs = ", ".join(NEEDS[need] for need in kind.needs) or "none"
    trained = f"{t.optimizer}, {t.schedule}{warm} | {t.lr_per_256:.4g} | {t.weight_decay:.3g}"
    return f"| `{name}` | {needs} | `{kind.recipe}` | {t.epochs} | {t.batch} | {trained} | {own or '-'} |\n"


def table():
    return HEAD + "".join(map(row, METHODS))


def test_the_table_is_what_the_methods_say():
    found, expected = PAGE.read_text(), table()
    assert expected in found, f"docs/methods.md: its table is to be\n{expected}"


def test_every_recipe_is_explained():
    text = PAGE.read_text()
    assert [name for name in RECIPES if f"`{name}`" not in text and not name.startswith("ladder-")] == []


if __name__ == "__main__":
    print(table())
