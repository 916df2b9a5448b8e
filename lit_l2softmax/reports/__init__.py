"""Pages on which a person reads a run or a sweep: one file each, without scripts, which needs no network."""
