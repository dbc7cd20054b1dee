"""``manyeyes probe``: what each level of each encoder knows."""
