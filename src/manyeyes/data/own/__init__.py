"""Your own data: questions and metrics of any training file, and a folder to train and test on."""
