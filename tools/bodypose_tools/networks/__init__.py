"""The Keras networks: layers, outputs, decoding in the graph, and `.keras` files."""
