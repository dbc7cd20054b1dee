"""Commands about recipes: list, show, explain the keys of, begin a new one."""
