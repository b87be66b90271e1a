"""ONNX graphs: what a served graph must contain, an index of its nodes, and one pass a file.

A pass takes a model and returns a changed copy; the model that it was given stays as it is.
"""
