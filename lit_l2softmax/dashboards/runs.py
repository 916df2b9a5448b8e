"""Which runs a dashboard is about, by what they record of themselves."""

from wandb_workspaces.expr import Config, FilterExpr, Metric

PROCEDURE, NETWORK = "model.class_path", "model.init_args.network.class_path"  # in a run's configuration
BENCH_JOB = "bench"


def classifying_by(network: str) -> list[FilterExpr]:
    """Runs that train the network of this class of ``lit_l2softmax.networks``, and test what it takes images for."""
    return [
        Config(PROCEDURE) == "lit_l2softmax.classification.LitClassification",
        Config(NETWORK) == f"lit_l2softmax.networks.{network}",
    ]


def of_groups(names: list[str]) -> list[FilterExpr]:
    """Runs of these sweeps."""
    return [Metric("Group").isin(names)]


def of_job(name: str) -> list[FilterExpr]:
    """Runs that do this kind of work."""
    return [Metric("JobType") == name]
