"""Which runs a dashboard is about, by what they record of themselves."""

from wandb_workspaces.expr import Config, FilterExpr, Metric

NETWORK = "model.init_args.network.class_path"  # in a run's configuration
BENCH_JOB = "bench"


def of_network(name: str) -> FilterExpr:
    """Runs that train the network of this class of ``lit_l2softmax.networks``."""
    return Config(NETWORK) == f"lit_l2softmax.networks.{name}"


def of_groups(names: list[str]) -> FilterExpr:
    """Runs of these sweeps."""
    return Metric("Group").isin(names)


def of_job(name: str) -> FilterExpr:
    """Runs that do this kind of work."""
    return Metric("JobType") == name
