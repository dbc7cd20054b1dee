"""What the pages of all commands are made of: templates, figures, pictures."""
