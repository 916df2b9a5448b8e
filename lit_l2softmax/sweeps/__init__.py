"""Many runs of one configuration, each with other settings: which, in what order, and what they show together.

A sweep's file is W&B's, so that ``wandb sweep`` takes it too; here it runs without a server.
"""
