"""One file a command that is not Lightning's: ``main([name, *options]) -> exit status``, importing what it needs."""
