"""What a training of a large classifier takes of each process, computed without doing it and without torch."""
