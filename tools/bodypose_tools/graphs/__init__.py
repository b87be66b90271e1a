"""ONNX graphs: what a served one must contain, an index of the nodes, one pass a file."""
