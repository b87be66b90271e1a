"""A long run of load with hostile images and killed models: no answer lost, no resource leaked."""
