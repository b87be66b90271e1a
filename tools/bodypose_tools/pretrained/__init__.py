"""Published weights: from their package to ours, and back towards them after training."""
