"""What recipes there are, what keys they may hold, and where each value of one comes from."""
