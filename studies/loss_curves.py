"""The losses of runs as one picture, a panel each, because losses of different methods have different scales.

Command    uv run --extra figures python studies/loss_curves.py runs/methods/*-[0-9] --out losses.png
Reads      the TensorBoard files that pretraining keeps; runs named NAME-SEED share the panel NAME
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def points_of(run: Path) -> list[dict[str, Any]]:
    """Step and loss, every tenth step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    name, _, seed = run.name.rpartition("-")
    return [{"method": name, "seed": seed, "step": e.step, "loss": e.value} for e in events.Scalars("loss")]


def main() -> None:
    import altair as alt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a file ending in .png, .svg or .pdf")
    parser.add_argument("--columns", type=int, default=5)
    a = parser.parse_args()
    points = [p for run in a.runs for p in points_of(run)]
    line = alt.Chart(alt.Data(values=points)).mark_line(strokeWidth=1).encode(
        x=alt.X("step:Q", title="step"),
        y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
        color=alt.Color("seed:N", scale=alt.Scale(scheme="tableau10")),
    )  # fmt: skip
    panels = line.properties(width=130, height=100).facet(facet=alt.Facet("method:N", title=None), columns=a.columns)
    panels.resolve_scale(y="independent", x="independent").save(str(a.out), scale_factor=1.5)


if __name__ == "__main__":
    main()
