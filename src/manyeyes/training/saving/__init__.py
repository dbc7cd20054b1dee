"""The files of a run: complete folders, weights, optimizer state, results."""
