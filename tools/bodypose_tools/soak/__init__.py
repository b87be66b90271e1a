"""An hour of load with hostile images and killed models, after which nothing may be missing."""
