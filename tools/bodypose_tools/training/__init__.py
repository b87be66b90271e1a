"""From a spec to the best checkpoint: samples, loss, optimizer, run, resume."""
