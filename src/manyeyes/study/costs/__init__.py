"""What a stage, a recipe and an arm cost, before anything is run."""
