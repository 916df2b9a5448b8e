"""The ROC of each variant of a sweep: the mean over its seeds, with the interval of that mean."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lit_l2softmax.plots_of_verification import finish

from .statistics import estimate

# Okabe and Ito's, told apart by most colour-blind eyes; the page knows the first four.
STYLES = (("#ff7f0e", "-"), ("#1f77b4", "-"), ("#009e73", "--"), ("#cc79a7", "-."), ("#4c4c4c", ":"))


def roc_chart(lines: Sequence[Mapping[str, str]]) -> Figure:
    """Lines of ``variant``, ``seed``, ``far`` and ``tar`` as curves, where every seed of a variant has the FAR."""
    curves: dict[str, dict[float, list[float]]] = {}
    seeds: dict[str, set[str]] = {}
    for line in lines:
        seeds.setdefault(line["variant"], set()).add(line["seed"])
        of_far = curves.setdefault(line["variant"], {})
        of_far.setdefault(float(line["far"]), []).append(float(line["tar"]))
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for place, (variant, of_far) in enumerate(curves.items()):
        colour, style = STYLES[place % len(STYLES)]
        fars = sorted(far for far, tars in of_far.items() if len(tars) == len(seeds[variant]))
        means = [estimate(of_far[far]) for far in fars]
        axes.plot(fars, [one.mean for one in means], color=colour, linestyle=style, label=variant.replace("$", r"\$"))
        axes.fill_between(
            fars, [one.low for one in means], [one.high for one in means], color=colour, alpha=0.12, linewidth=0
        )
    counts = sorted({len(of) for of in seeds.values()})
    runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    figure.suptitle(
        f"true accepts against false accepts, means over {runs} seeds with 95 % intervals of each mean\n"
        "what tells two of them apart is the difference seed by seed, which the table has",
        fontsize=9,
    )
    finish(axes)
    return figure
