"""Errors a person can mend: the command line prints their message as one line and exits with status 2."""


class ConfigError(Exception):
    """A configuration asks for what cannot be; the message says which value."""


class DataError(Exception):
    """A data set is missing, damaged or out of reach; the message says which file and what to do."""


class RunError(Exception):
    """A run folder or a checkpoint cannot be used as asked; the message says why and what to do."""


class NonFiniteError(RunError):
    """A training has come to an inf or a NaN; the message says in which step and what is not finite."""
