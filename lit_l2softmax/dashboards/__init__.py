"""W&B dashboards as code: one file a family, from which its workspace and its report are made."""
