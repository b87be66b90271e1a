"""ONNX graphs: what ours must hold, finding one's way in them, and one rewriting per file."""
