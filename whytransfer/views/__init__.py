"""Stage 3, pixels -> views: which invariances are trained in decides what transfers.

Reading order: `operations` (the vocabulary and its laws of chance), `recipes` (the papers), `engine` (pixels in, views
out), then the same arithmetic twice: `geometry` + `photometry` (torch, any device) and `fused` (numba, image by image).
"""

from whytransfer.views.engine import Viewer, eval_views
from whytransfer.views.recipes import RECIPES, Recipe, recipe

__all__ = ["RECIPES", "Recipe", "Viewer", "eval_views", "recipe"]
