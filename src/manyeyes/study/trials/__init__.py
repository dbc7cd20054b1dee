"""Arms trained and examined, one seed at a time, and what is kept of them."""
