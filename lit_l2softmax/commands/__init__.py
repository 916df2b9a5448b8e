"""One file a command that is not Lightning's; each has ``main(arguments) -> exit status`` and imports what it needs."""
