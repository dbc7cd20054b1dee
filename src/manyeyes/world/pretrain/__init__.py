"""Training of the tiny parts that ship with the package, from seed."""
