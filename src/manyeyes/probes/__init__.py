"""What can be read from frozen features: probes that know features and labels, and nothing else."""
