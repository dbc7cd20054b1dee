"""A trained model answers: images encoded once, questions asked, candidates ranked."""
